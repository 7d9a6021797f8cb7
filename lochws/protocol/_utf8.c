/* UTF-8 to str (RFC 3629), as bytes.decode() does it, but about twice as fast for text that is not ASCII,
 * and with no more memory than the str needs. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "_parts.h"

/* Return whether all bytes are ASCII. */
static int
is_ascii(const unsigned char *at, Py_ssize_t length)
{
    uint64_t seen = 0, word;
    Py_ssize_t i = 0;
    for (; i + 8 <= length; i += 8) {
        memcpy(&word, at + i, 8);
        seen |= word;
    }
    for (; i < length; i++) {
        seen |= at[i];
    }
    return !(seen & UINT64_C(0x8080808080808080));
}

/* Return how many characters begin in the bytes, and store the largest byte. */
static Py_ssize_t
survey(const unsigned char *at, Py_ssize_t length, unsigned char *largest)
{
    Py_ssize_t characters = 0;
    unsigned char most = 0;
    while (length > 0) {
        /* Counters of one byte let compilers use vectors of bytes. */
        Py_ssize_t block = length < 255 ? length : 255;
        unsigned char continuing = 0;
        for (Py_ssize_t i = 0; i < block; i++) {
            continuing += (at[i] & 0xC0) == 0x80;
            most = at[i] > most ? at[i] : most;
        }
        characters += block - continuing;
        at += block;
        length -= block;
    }
    *largest = most;
    return characters;
}

static inline int
continues(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

#if PY_LITTLE_ENDIAN
/* First bytes, by their low half, that forbid some second bytes: E0 (overlong forms) and ED (surrogates). */
#define SPECIAL (1u << 0x0 | 1u << 0xD)

/* Decode four characters of three bytes each. Return 0 if they are, or may be, something else. */
static inline int
decode_four(const unsigned char *at, uint16_t *target)
{
    uint32_t wrong = 0, firsts = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t word;
        memcpy(&word, at + 3 * i, 4);
        wrong |= word ^ 0x8080E0;
        firsts |= 1u << (word & 0x0F);
        target[i] = (uint16_t)((word & 0x0F) << 12 | (word >> 2 & 0xFC0) | (word >> 16 & 0x3F));
    }
    return !(wrong & 0xC0C0F0) && !(firsts & SPECIAL);
}
#endif

/* Widen eight ASCII bytes. Return 0 if they are something else. */
static inline int
decode_eight(const unsigned char *at, void *target, int kind, Py_ssize_t i)
{
    uint64_t word;
    memcpy(&word, at, 8);
    if (word & UINT64_C(0x8080808080808080)) {
        return 0;
    }
    for (int k = 0; k < 8; k++) {
        PyUnicode_WRITE(kind, target, i + k, at[k]);
    }
    return 1;
}

/* Decode into `target`, from `i` on; it has `room` for as many characters as begin before `end`. `kind` is
 * the size of each, and large enough for all of them. Return 0 if the bytes are not valid UTF-8. */
static inline int
decode_into(void *target, int kind, Py_ssize_t i, Py_ssize_t room, const unsigned char *at,
            const unsigned char *end)
{
    while (at < end) {
        uint32_t character = at[0];
        if (character < 0x80) {
            if (end - at >= 8 && room - i >= 8 && decode_eight(at, target, kind, i)) {
                at += 8;
                i += 8;
                continue;
            }
            at += 1;
        }
        else if (character < 0xE0) {
            if (character < 0xC2 || end - at < 2 || !continues(at[1])) {
                return 0;
            }
            character = (character & 0x1F) << 6 | (at[1] & 0x3F);
            at += 2;
        }
        else if (character < 0xF0) {
#if PY_LITTLE_ENDIAN
            /* It writes before it knows, so there must be room for four, whatever they are. */
            if (kind == PyUnicode_2BYTE_KIND && end - at >= 13 && room - i >= 4 &&
                decode_four(at, (uint16_t *)target + i)) {
                at += 12;
                i += 4;
                continue;
            }
#endif
            if (end - at < 3 || !continues(at[1]) || !continues(at[2])) {
                return 0;
            }
            character = (character & 0x0F) << 12 | (uint32_t)(at[1] & 0x3F) << 6 | (at[2] & 0x3F);
            if (character < 0x800 || (character & 0xF800) == 0xD800) {
                return 0;
            }
            at += 3;
        }
        else {
            if (end - at < 4 || !continues(at[1]) || !continues(at[2]) || !continues(at[3])) {
                return 0;
            }
            character = (character & 0x0F) << 18 | (uint32_t)(at[1] & 0x3F) << 12 |
                        (uint32_t)(at[2] & 0x3F) << 6 | (at[3] & 0x3F);
            if (character < 0x10000 || character > 0x10FFFF) {
                return 0;
            }
            at += 4;
        }
        PyUnicode_WRITE(kind, target, i, character);
        i++;
    }
    return 1;
}

/* Decode into a str of its kind. Return 0 if the bytes are not valid UTF-8. */
static int
decode_part(PyObject *text, Py_ssize_t i, Py_ssize_t room, const unsigned char *at, const unsigned char *end)
{
    /* The kind is constant in each call, so that each is compiled for itself. */
    switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
        return decode_into(PyUnicode_1BYTE_DATA(text), PyUnicode_1BYTE_KIND, i, room, at, end);
    case PyUnicode_2BYTE_KIND:
        return decode_into(PyUnicode_2BYTE_DATA(text), PyUnicode_2BYTE_KIND, i, room, at, end);
    default:
        return decode_into(PyUnicode_4BYTE_DATA(text), PyUnicode_4BYTE_KIND, i, room, at, end);
    }
}

/* Return the largest character that a str must have room for, by the largest byte of its UTF-8. */
static Py_UCS4
largest_character(unsigned char byte)
{
    return byte < 0x80 ? 0x7F : byte < 0xC4 ? 0xFF : byte < 0xF0 ? 0xFFFF : 0x10FFFF;
}

PyObject *
decode_utf8(const char *payload, Py_ssize_t length)
{
    const unsigned char *at = (const unsigned char *)payload;
    if (length < 2) {
        return PyUnicode_DecodeUTF8(payload, length, NULL); /* characters that Python shares */
    }
    if (is_ascii(at, length)) {
        PyObject *text = PyUnicode_New(length, 127);
        if (text != NULL) {
            memcpy(PyUnicode_1BYTE_DATA(text), at, (size_t)length);
        }
        return text;
    }
    unsigned char largest;
    Py_ssize_t characters = survey(at, length, &largest);
    if (characters < 2) {
        return PyUnicode_DecodeUTF8(payload, length, NULL);
    }
    PyObject *text = PyUnicode_New(characters, largest_character(largest));
    if (text != NULL && !decode_part(text, 0, characters, at, at + length)) {
        Py_DECREF(text);
        return PyUnicode_DecodeUTF8(payload, length, NULL); /* which says what is wrong */
    }
    return text;
}

/* The size of the blocks in which memory is given back. */
#define BLOCK_BYTES ((Py_ssize_t)1 << 20)

/* Whether a text is large, and larger as a str than in UTF-8: one emoji makes a str four times as large.
 * Then the two should not exist side by side. */
static int
swells(const unsigned char *at, Py_ssize_t length)
{
    if (length <= BLOCK_BYTES) {
        return 0;
    }
    unsigned char largest;
    Py_ssize_t characters = survey(at, length, &largest);
    return characters > length / (largest < 0xC4 ? 1 : largest < 0xF0 ? 2 : 4);
}

/* Decode bytes that nobody else refers to, from their end, and give back their memory on the way. On success
 * and on failure `*bytes` is what is left, or NULL. */
static PyObject *
decode_consuming(PyObject **bytes)
{
    Py_ssize_t end = PyBytes_GET_SIZE(*bytes);
    unsigned char largest;
    Py_ssize_t characters = survey((unsigned char *)PyBytes_AS_STRING(*bytes), end, &largest);
    PyObject *text = PyUnicode_New(characters, largest_character(largest));
    while (text != NULL && end > 0) {
        const unsigned char *at = (unsigned char *)PyBytes_AS_STRING(*bytes);
        Py_ssize_t start = end > BLOCK_BYTES ? end - BLOCK_BYTES : 0;
        for (int back = 0; back < 3 && start > 0 && continues(at[start]); back++) {
            start--; /* a block begins with a character */
        }
        Py_ssize_t begun = survey(at + start, end - start, &largest);
        if (!decode_part(text, characters - begun, characters, at + start, at + end)) {
            Py_CLEAR(text);
            Py_XDECREF(PyUnicode_DecodeUTF8((const char *)at + start, end - start, NULL));
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_SystemError, "decode_payload: the decoders disagree");
            }
            break;
        }
        characters -= begun;
        end = start;
        if (_PyBytes_Resize(bytes, end) < 0) {
            Py_CLEAR(text);
        }
    }
    return text;
}

const char utf8_decode_doc[] = PyDoc_STR(
"decode_payload(buffer)\n--\n\n"
"The compiled twin of decode_payload_python.");

PyObject *
utf8_decode_payload(PyObject *Py_UNUSED(module), PyObject *buffer)
{
    PyObject *bytes = PyObject_CallMethod(buffer, "getvalue", NULL);
    if (bytes == NULL) {
        return NULL;
    }
    PyObject *text = NULL, *closed = PyObject_CallMethod(buffer, "close", NULL);
    if (closed != NULL && !PyBytes_CheckExact(bytes)) {
        PyErr_SetString(PyExc_TypeError, "decode_payload: getvalue must return bytes");
    }
    else if (closed != NULL && Py_REFCNT(bytes) == 1 &&
             swells((unsigned char *)PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes))) {
        text = decode_consuming(&bytes);
    }
    else if (closed != NULL) {
        text = decode_utf8(PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
    }
    Py_XDECREF(closed);
    Py_XDECREF(bytes);
    return text;
}

/* Return whether the bytes are valid UTF-8 (RFC 3629 section 4). Unless `is_whole`, the last character may be
 * incomplete. Nothing is decoded. */
int
is_utf8(const unsigned char *at, Py_ssize_t length, int is_whole)
{
    const unsigned char *end = at + length;
    while (at < end) {
        uint64_t word;
        if (end - at >= 8 && (memcpy(&word, at, 8), !(word & UINT64_C(0x8080808080808080)))) {
            at += 8;
            continue;
        }
        unsigned char first = *at++;
        if (first < 0x80) {
            continue;
        }
        if (first < 0xC2 || first > 0xF4) {
            return 0;
        }
        Py_ssize_t more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
        if (end - at < more) {
            if (is_whole) {
                return 0;
            }
            more = end - at;
        }
        /* The second byte excludes overlong forms, surrogates, and what lies beyond U+10FFFF. */
        unsigned char least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        unsigned char most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (more && (at[0] < least || at[0] > most)) {
            return 0;
        }
        for (Py_ssize_t i = 1; i < more; i++) {
            if (!continues(at[i])) {
                return 0;
            }
        }
        at += more;
    }
    return 1;
}

const char utf8_is_valid_doc[] = PyDoc_STR(
"is_utf8(data)\n--\n\n"
"The compiled twin of is_utf8_python.");

PyObject *
utf8_is_valid(PyObject *Py_UNUSED(module), PyObject *data)
{
    if (!PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "is_utf8(data: bytes)");
        return NULL;
    }
    return PyBool_FromLong(is_utf8((const unsigned char *)PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), 1));
}
