/* The compiled twin of scanning.scan_python: all whole messages of a buffer in one pass. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "../system/_slots.h"
#include "_parts.h"

/* An instance of Text or Binary: three slots, in any order. */
typedef struct {
    PyObject_HEAD
    PyObject *slots[3];
} Message;

/* Free a message, in half of the time that Python's function takes, which is for all kinds of classes. The
 * latter calls this one for the instances of subclasses, when it has cleared what they have in addition. */
static void
message_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(((Message *)self)->slots[i]);
    }
    PyObject_GC_Del(self);
    Py_DECREF(type); /* each instance of a heap type owns a reference to it */
}

const char scanning_configure_doc[] = PyDoc_STR(
"configure(Text, EncodedText, Binary)\n--\n\n"
"Set the event classes that scan() creates. All need the slot received_time; "
"Text needs text, EncodedText _data, and Binary data.");

PyObject *
scanning_configure(PyObject *module, PyObject *args)
{
    PyTypeObject *text, *encoded, *binary, *meta = &PyType_Type;
    if (!PyArg_ParseTuple(args, "O!O!O!:configure", meta, &text, meta, &encoded, meta, &binary)) {
        return NULL;
    }
    /* Everything is looked up first, so that a call that fails changes nothing. */
    static const char *const of_text[] = {"received_time", "text"};
    static const char *const of_encoded[] = {"received_time", "_data"};
    static const char *const of_binary[] = {"received_time", "data"};
    Py_ssize_t text_slots[2], encoded_slots[2], binary_slots[2];
    if (!find_slots(text, of_text, text_slots, 2) || !find_slots(encoded, of_encoded, encoded_slots, 2) ||
        !find_slots(binary, of_binary, binary_slots, 2)) {
        return NULL;
    }
    State *state = state_of(module);
    PyTypeObject *old_text = state->text_type, *old_encoded = state->encoded_type;
    PyTypeObject *old_binary = state->binary_type;
    state->text_time = text_slots[0];
    state->text_text = text_slots[1];
    state->encoded_time = encoded_slots[0];
    state->encoded_data = encoded_slots[1];
    state->binary_time = binary_slots[0];
    state->binary_data = binary_slots[1];
    Py_INCREF(text);
    Py_INCREF(encoded);
    Py_INCREF(binary);
    state->text_type = text;
    state->encoded_type = encoded;
    state->binary_type = binary;
    if (text->tp_basicsize == sizeof(Message) && binary->tp_basicsize == sizeof(Message)) {
        text->tp_dealloc = binary->tp_dealloc = message_dealloc;
    }
    /* Last, since letting go of a class may run any code. */
    Py_XDECREF(old_text);
    Py_XDECREF(old_encoded);
    Py_XDECREF(old_binary);
    Py_RETURN_NONE;
}

/* Make an event of a class. Steals `content`, even on failure. */
static PyObject *
make_event(PyTypeObject *type, Py_ssize_t time_offset, PyObject *received, Py_ssize_t offset,
           PyObject *content)
{
    /* The collector does not track it. It refers only to a number and a str or bytes, so it cannot be part of a
     * cycle, and the collector need not look at the hundreds of events of a batch again and again. */
    PyObject *event = PyObject_GC_New(PyObject, type);
    if (event == NULL) {
        Py_DECREF(content);
        return NULL;
    }
    memset((char *)event + sizeof(PyObject), 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    Py_INCREF(received);
    *(PyObject **)((char *)event + time_offset) = received;
    *(PyObject **)((char *)event + offset) = content;
    return event;
}

/* Store the lengths of the head and the payload of the frame at `at`. Return 1 if the head lies in the buffer and
 * the frame is a whole message, else 0. Lengths need not be in the shortest form. */
int
read_head(const unsigned char *at, const unsigned char *end, int may_be_deflated, Py_ssize_t *head,
          uint64_t *length)
{
    if (end - at < 2) {
        return 0;
    }
    int first = may_be_deflated ? at[0] & ~DEFLATED : at[0];
    if (first != FINAL_TEXT && first != FINAL_BINARY) {
        return 0;
    }
    uint64_t size = at[1];
    *head = size < 126 ? 2 : size == 126 ? 4 : 10;
    if (size > 127 || end - at < *head) {
        return 0; /* masked, or incomplete */
    }
    if (size >= 126) {
        size = 0;
        for (int i = 2; i < *head; i++) {
            size = size << 8 | at[i];
        }
    }
    *length = size;
    return 1;
}

/* Return the content of a text in UTF-8 as str or, if that is wanted, as bytes; or NULL with a
 * UnicodeDecodeError. */
static PyObject *
text_content(const char *payload, Py_ssize_t length, int as_bytes)
{
    if (as_bytes && is_utf8((const unsigned char *)payload, length, 1)) {
        return PyBytes_FromStringAndSize(payload, length);
    }
    return decode_utf8(payload, length); /* for the error, if it is to be bytes */
}

int
may_exceed(uint64_t length, Py_ssize_t limit)
{
    return length >= (uint64_t)PY_SSIZE_T_MAX || (Py_ssize_t)length > limit / 1032 - 8;
}

/* Call a method of an Inflater with bytes and the limit. Steals `data`. */
static PyObject *
ask(PyObject *inflater, PyObject *method, PyObject *data, Py_ssize_t limit)
{
    PyObject *result = NULL, *number = PyLong_FromSsize_t(limit);
    if (number != NULL) {
        PyObject *arguments[] = {inflater, data, number};
        result = PyObject_VectorcallMethod(method, arguments, 3, NULL);
        Py_DECREF(number);
    }
    Py_DECREF(data);
    return result;
}

/* Have the stream decompress a payload and its tail at once: the usual case of Inflater.message. */
static PyObject *
inflate_at_once(const State *state, PyObject *inflater, PyObject *stream, Py_ssize_t limit, const char *payload,
                Py_ssize_t length)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, length + 4);
    if (data == NULL) {
        return NULL;
    }
    memcpy(PyBytes_AS_STRING(data), payload, (size_t)length);
    memcpy(PyBytes_AS_STRING(data) + length, "\0\0\xff\xff", 4); /* RFC 7692 section 7.2.2 */
    PyObject *arguments[] = {stream, data};
    PyObject *content = PyObject_VectorcallMethod(state->decompress, arguments, 2, NULL);
    Py_DECREF(data);
    if (content == NULL) {
        return NULL;
    }
    PyObject *is_over = PyObject_GetAttr(stream, state->eof);
    if (is_over == NULL) {
        Py_CLEAR(content);
    }
    else if (is_over != Py_False) {
        content = ask(inflater, state->go_on, content, limit);
    }
    Py_XDECREF(is_over);
    return content;
}

/* Return the content of a compressed message: bytes, or a str if the first byte says text and `as_bytes` is
 * false; None if the inflater leaves it to the caller. */
static PyObject *
inflated(const State *state, PyObject *inflater, Py_ssize_t limit, int first, const char *payload,
         Py_ssize_t length, int as_bytes)
{
    PyObject *content, *stream = PyObject_GetAttr(inflater, state->stream);
    if (stream == NULL) {
        return NULL;
    }
    if (stream != Py_None && length > 0 && !may_exceed((uint64_t)length, limit)) {
        content = inflate_at_once(state, inflater, stream, limit, payload, length);
    }
    else {
        PyObject *data = PyBytes_FromStringAndSize(payload, length);
        content = data == NULL ? NULL : ask(inflater, state->message, data, limit);
    }
    Py_DECREF(stream);
    if (content == NULL || content == Py_None) {
        return content;
    }
    if (!PyBytes_Check(content)) {
        PyErr_SetString(PyExc_TypeError, "scan: an inflater must return bytes or None");
        Py_CLEAR(content);
    }
    else if (first & 1) {
        Py_SETREF(content,
                  text_content(PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content), as_bytes));
    }
    return content;
}

/* Return about how much memory a str takes. */
static Py_ssize_t
memory_of_text(PyObject *text)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    if (PyUnicode_IS_ASCII(text)) {
        return length;
    }
    return (Py_ssize_t)sizeof(PyCompactUnicodeObject) + (length + 1) * PyUnicode_KIND(text);
}

/* Append the event of a message to `events`, and add its memory to `memory`.
 * Return 1, 0 if Python has to take the frame or to say what is wrong with it, or -1 with an exception. */
static int
take(const State *state, PyObject *events, PyObject *received, PyObject *inflater, Py_ssize_t limit, int as_bytes,
     int first, const char *payload, Py_ssize_t length, Py_ssize_t *memory)
{
    PyObject *content;
    if (first & DEFLATED) {
        content = inflated(state, inflater, limit, first, payload, length, as_bytes);
        if (content == Py_None) {
            Py_DECREF(content);
            return 0;
        }
    }
    else if (first == FINAL_TEXT) {
        content = text_content(payload, length, as_bytes);
        if (content == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
            return 0;
        }
    }
    else {
        content = PyBytes_FromStringAndSize(payload, length);
    }
    if (content == NULL) {
        return -1;
    }
    *memory += !PyUnicode_Check(content) ? PyBytes_GET_SIZE(content) : memory_of_text(content);
    PyObject *event =
        !(first & 1) ? make_event(state->binary_type, state->binary_time, received, state->binary_data, content)
        : as_bytes ? make_event(state->encoded_type, state->encoded_time, received, state->encoded_data, content)
                   : make_event(state->text_type, state->text_time, received, state->text_text, content);
    if (event == NULL) {
        return -1;
    }
    int appended = PyList_Append(events, event);
    Py_DECREF(event);
    return appended < 0 ? -1 : 1;
}

/* Return time.time(), rounded as Python does, as an object that all events of one scan share; NULL with an exception. */
static PyObject *
time_in(Scan *scan)
{
    if (scan->received == NULL) {
        struct timespec now;
        timespec_get(&now, TIME_UTC);
        scan->received = PyFloat_FromDouble((double)((long long)now.tv_sec * 1000000000 + now.tv_nsec) / 1e9);
    }
    return scan->received;
}

int
append_binary(const State *state, Scan *scan, PyObject *events, PyObject *content)
{
    PyObject *event = NULL, *received = time_in(scan);
    if (received == NULL) {
        Py_DECREF(content);
    }
    else {
        event = make_event(state->binary_type, state->binary_time, received, state->binary_data, content);
    }
    int appended = event == NULL ? -1 : PyList_Append(events, event);
    Py_XDECREF(event);
    return appended;
}

const unsigned char *
scan_frames(const State *state, Scan *scan, const unsigned char *at, const unsigned char *end, Py_ssize_t limit,
            PyObject *events, PyObject *inflater, int as_bytes)
{
    Py_ssize_t head;
    uint64_t length;
    if (state->text_type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "scan: call configure() first");
        return NULL;
    }
    while (read_head(at, end, inflater != NULL, &head, &length) && length <= (uint64_t)(end - at - head)) {
        /* The size of a compressed message is checked when it is decompressed. */
        if (!(at[0] & DEFLATED) && length > (uint64_t)limit) {
            break;
        }
        PyObject *received = time_in(scan);
        int taken = received == NULL ? -1 :
            take(state, events, received, inflater, limit, as_bytes, at[0], (const char *)at + head,
                 (Py_ssize_t)length, &scan->memory);
        if (taken < 0) {
            return NULL;
        }
        if (taken == 0) {
            break;
        }
        at += head + (Py_ssize_t)length;
    }
    return at;
}

const char scanning_scan_doc[] = PyDoc_STR(
"scan(data, position, limit, events, inflater=None, as_bytes=False)\n--\n\n"
"The compiled twin of scan_python.");

PyObject *
scanning_scan(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count < 4 || count > 6 || !PyList_CheckExact(args[3])) {
        PyErr_SetString(PyExc_TypeError, "scan(data, position, limit, events: list, inflater=None, as_bytes=False)");
        return NULL;
    }
    const State *state = state_of(module);
    PyObject *inflater = count >= 5 && args[4] != Py_None ? args[4] : NULL;
    int as_bytes = count == 6 && args[5] == Py_True;
    Py_ssize_t position = PyLong_AsSsize_t(args[1]);
    Py_ssize_t limit = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const unsigned char *start = view.buf, *at = NULL;
    Scan scan = {NULL, 0};
    if (position < 0 || position > view.len || limit < 0) {
        PyErr_SetString(PyExc_ValueError, "scan: position or limit out of range");
    }
    else {
        at = scan_frames(state, &scan, start + position, start + view.len, limit, args[3], inflater, as_bytes);
    }
    position = at == NULL ? 0 : at - start;
    Py_XDECREF(scan.received);
    PyBuffer_Release(&view);
    return at == NULL ? NULL : PyLong_FromSsize_t(position);
}
