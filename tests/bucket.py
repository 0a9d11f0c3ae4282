"""bucket() in plain Python, for those who compute it elsewhere."""


def bucket(user_id: int, salt: int) -> int:
    """The bucket, 0 to 99999, of a user under a segment's salt: what segmentation.bucket() gives."""

    def word(x: int) -> int:
        return x & 0xFFFFFFFF

    def rotated(x: int, by: int) -> int:
        return word(x << by | x >> (32 - by))

    high = user_id >> 32
    seed = salt ^ (high * 2654435761)
    a = b = c = 0x9E3779B9 + 4 + 3923095
    if seed != 0:
        a, b = word(a + (seed >> 32)), word(b + seed)
        for by in (4, 6, 8, 16, 19, 4):
            a, b, c = b, word(c + b), word(a - c) ^ rotated(c, by)
    a = word(a + word(user_id ^ high))
    for by in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, word((c ^ b) - rotated(b, by)), a
    return ((a << 32 | b) & 0x7FFFFFFFFFFFFFFF) % 100_000
