# Results that a list of the module keeps.
# leak: *
# environment: PYTHONMALLOC=malloc
import time

results = []
number = 0
while True:
    number += 1
    body = bytearray(600)
    if number % 10 == 0:
        results.append(bytearray(900))
    time.sleep(0.004)
