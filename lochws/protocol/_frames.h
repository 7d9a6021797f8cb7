/* Building masked frames (RFC 6455 section 5.2), for the C files that send. */

#include <Python.h>
#include <stdint.h>
#include <string.h>

/* XOR with the repeated key. */
static void
mask_into(unsigned char *target, const unsigned char *source, Py_ssize_t length, const unsigned char *key)
{
    uint32_t wide;
    Py_ssize_t i = 0;
    memcpy(&wide, key, 4);
#if defined(__GNUC__)
    /* Four vectors per step are as fast as memcpy(). Compilers make at most one of the loop below, if any. */
    typedef uint32_t Vector __attribute__((vector_size(16)));
    const Vector pattern = {wide, wide, wide, wide};
    for (; i + 64 <= length; i += 64) {
        Vector a, b, c, d;
        memcpy(&a, source + i, 16);
        memcpy(&b, source + i + 16, 16);
        memcpy(&c, source + i + 32, 16);
        memcpy(&d, source + i + 48, 16);
        a ^= pattern;
        b ^= pattern;
        c ^= pattern;
        d ^= pattern;
        memcpy(target + i, &a, 16);
        memcpy(target + i + 16, &b, 16);
        memcpy(target + i + 32, &c, 16);
        memcpy(target + i + 48, &d, 16);
    }
#endif
    for (; i + 4 <= length; i += 4) {
        uint32_t word;
        memcpy(&word, source + i, 4);
        word ^= wide;
        memcpy(target + i, &word, 4);
    }
    for (; i < length; i++) {
        target[i] = source[i] ^ key[i & 3];
    }
}

/* Return the length of a masked frame's head, including the key. */
static inline Py_ssize_t
masked_head(Py_ssize_t length)
{
    return length < 126 ? 6 : length < 65536 ? 8 : 14;
}

/* Write a whole masked frame. Return where it ends. */
static unsigned char *
write_frame(unsigned char *target, int first, const unsigned char *payload, Py_ssize_t size,
            const unsigned char *key)
{
    uint64_t length = (uint64_t)size;
    Py_ssize_t head = masked_head(size);
    int bytes = head == 6 ? 0 : head == 8 ? 2 : 8;
    target[0] = (unsigned char)first;
    target[1] = (unsigned char)(0x80 | (bytes == 0 ? length : bytes == 2 ? 126 : 127));
    for (int i = 0; i < bytes; i++) {
        target[2 + i] = (unsigned char)(length >> (8 * (bytes - 1 - i)));
    }
    memcpy(target + head - 4, key, 4);
    mask_into(target + head, payload, size, key);
    return target + head + size;
}

/* Look at a message as the user passed it: store the first byte of its frame, its content and its size.
 * Return 0 if it is neither an ASCII text nor bytes. Never sets an exception. */
static int
look_at_plain(PyObject *item, int *first, const unsigned char **content, Py_ssize_t *size)
{
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_CheckExact(item) && !PyUnicode_IS_READY(item)) {
        return 0;
    }
#endif
    if (PyUnicode_CheckExact(item) && PyUnicode_IS_ASCII(item)) {
        *first = 0x81;
        *content = PyUnicode_1BYTE_DATA(item);
        *size = PyUnicode_GET_LENGTH(item);
        return 1;
    }
    if (PyBytes_CheckExact(item)) {
        *first = 0x82;
        *content = (const unsigned char *)PyBytes_AS_STRING(item);
        *size = PyBytes_GET_SIZE(item);
        return 1;
    }
    return 0;
}
