# Objects that hold each other, and no garbage collector.
# leak: *
# environment: PYTHONMALLOC=malloc
import gc
import time

gc.disable()


class Request:
    def __init__(self):
        self.body = bytearray(500)
        self.itself = self


while True:
    Request()
    scratch = bytearray(2000)
    time.sleep(0.02)
