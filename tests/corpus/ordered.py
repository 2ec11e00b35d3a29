# A cache of bounded size.
# no leak
# environment: PYTHONMALLOC=malloc
import collections
import random
import time

cache = collections.OrderedDict()
while True:
    key = random.randrange(4000)
    if key in cache:
        cache.move_to_end(key)
    else:
        cache[key] = bytearray(700)
        if len(cache) > 500:
            cache.popitem(last=False)
    time.sleep(0.002)
