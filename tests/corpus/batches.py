# Rows that are read in batches and dropped.
# no leak
# environment: PYTHONMALLOC=malloc
import time

while True:
    rows = []
    for _ in range(1200):
        rows.append(bytearray(800))
        time.sleep(0.002)
    rows = None
    time.sleep(1)
