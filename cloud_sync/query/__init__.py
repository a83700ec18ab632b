"""The read path: catalog rows to packs to arrays to buckets or rows. Blocking and free of asyncio."""
