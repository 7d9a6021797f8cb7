/* The compiled twin of TLSStream._receive in layered.py: receives TLS records, gives them to OpenSSL, one at a time, and
 * reads their data.
 *
 * It calls the methods of Python's own TLS object, which release the GIL while they decrypt.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "../system/_module.h"

/* See records.py. */
#define HEADER_BYTES 5
#define LONGEST_BYTES (16 * 1024 + 2048)

/* The names of methods and attributes. Every import of the module has its own. */
typedef struct {
    PyObject *read, *write, *pending;
    /* Of a TLSStream: see its constructor. */
    PyObject *tls, *incoming, *outgoing, *gate, *lock, *is_inside, *unsent, *has_rest, *records, *has_record, *end,
        *is_stuck, *stream, *answer, *note;
    PyObject *acquire, *release, *eof, *receive_into, *reads_want_write, *write_eof;
} State;

static const struct {
    const char *text;
    size_t offset;
} names[] = {
    {"read", offsetof(State, read)}, {"write", offsetof(State, write)}, {"pending", offsetof(State, pending)},
    {"tls", offsetof(State, tls)}, {"_incoming", offsetof(State, incoming)}, {"_outgoing", offsetof(State, outgoing)},
    {"_gate", offsetof(State, gate)}, {"_lock", offsetof(State, lock)}, {"_is_inside", offsetof(State, is_inside)},
    {"_unsent", offsetof(State, unsent)}, {"_has_rest", offsetof(State, has_rest)},
    {"_records", offsetof(State, records)}, {"_has_record", offsetof(State, has_record)},
    {"_end", offsetof(State, end)}, {"_is_stuck", offsetof(State, is_stuck)}, {"_stream", offsetof(State, stream)},
    {"_answer", offsetof(State, answer)}, {"_note", offsetof(State, note)}, {"acquire", offsetof(State, acquire)},
    {"release", offsetof(State, release)}, {"eof", offsetof(State, eof)},
    {"receive_into", offsetof(State, receive_into)}, {"reads_want_write", offsetof(State, reads_want_write)},
    {"write_eof", offsetof(State, write_eof)},
};

static double
seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Return the size of the record that begins the data, or 0 while it is incomplete. See record_size. */
static Py_ssize_t
record_size(const unsigned char *data, Py_ssize_t here)
{
    if (here < HEADER_BYTES) {
        return 0;
    }
    Py_ssize_t size = HEADER_BYTES + (data[3] << 8) + data[4];
    if (size <= here) {
        return size;
    }
    int is_record = data[0] >= 20 && data[0] <= 24 && data[1] == 3 && size <= HEADER_BYTES + LONGEST_BYTES;
    return is_record ? 0 : here;
}

/* Give a record to OpenSSL. Return -1 with an exception. */
static int
give(const State *state, PyObject *incoming, PyObject *records, Py_ssize_t start, Py_ssize_t size)
{
    PyObject *record = PySequence_GetSlice(records, start, start + size);
    if (record == NULL) {
        return -1;
    }
    PyObject *arguments[] = {incoming, record};
    PyObject *result = PyObject_VectorcallMethod(state->write, arguments, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(record);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Return the integer that a method returned (stolen), or -1 with an exception. */
static Py_ssize_t
as_size(PyObject *result)
{
    if (result == NULL) {
        return -1;
    }
    Py_ssize_t size = PyLong_AsSsize_t(result);
    Py_DECREF(result);
    if (size < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "a negative size");
    }
    return size;
}

/* Read data into part of a view. Return the number of bytes, 0 at the end of the stream, or -1 with an exception. */
static Py_ssize_t
read_data(const State *state, PyObject *tls, PyObject *view, Py_ssize_t start, Py_ssize_t end)
{
    PyObject *rest = PySequence_GetSlice(view, start, end), *size = PyLong_FromSsize_t(end - start), *result = NULL;
    if (rest != NULL && size != NULL) {
        PyObject *arguments[] = {tls, size, rest};
        result = PyObject_VectorcallMethod(state->read, arguments, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(rest);
    Py_XDECREF(size);
    Py_ssize_t count = as_size(result);
    if (count > end - start) {
        PyErr_SetString(PyExc_ValueError, "read: more bytes than there was room for");
        return -1;
    }
    return count;
}

/* Return the current exception without its traceback, which would keep the views alive; or NULL with an exception. */
static PyObject *
take_error(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *error = PyErr_GetRaisedException();
#else
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
#endif
    if (PyException_SetTraceback(error, Py_None) < 0) {
        Py_CLEAR(error);
    }
    return error;
}

/* The progress of one call of receive(): where it reads from and into, and how far it has got. The objects are
 * borrowed. */
typedef struct {
    PyObject *tls, *incoming;
    PyObject *records;             /* the memory with the records, and where in it those begin and end that are left */
    const unsigned char *data;
    Py_ssize_t start, end;
    PyObject *buffer, *more;       /* the memory for the data; `more` may be None */
    Py_ssize_t own, room, filled;  /* the size of the first, of both, and how much is filled */
    int is_through;                /* whether OpenSSL has nothing left to process until it gets the next record */
} Reading;

/* Give records to OpenSSL and read their data, as far as room and time allow. Return None, or the result of the last
 * read if it was not data: see read_records in records.py. */
static PyObject *
read_until(const State *state, Reading *self, double until)
{
    while (self->filled < self->room) {
        if (self->is_through) {
            Py_ssize_t size = record_size(self->data + self->start, self->end - self->start);
            if (size == 0) {
                break;
            }
            if (give(state, self->incoming, self->records, self->start, size) < 0) {
                return NULL;
            }
            self->start += size;
        }
        self->is_through = 1;
        Py_ssize_t filled = self->filled, own = self->own, most = (filled < own ? own : self->room) - filled;
        Py_ssize_t got = filled < own ? read_data(state, self->tls, self->buffer, filled, own)
                                      : read_data(state, self->tls, self->more, filled - own, self->room - own);
        if (got < 0) {
            return PyErr_ExceptionMatches(PyExc_OSError) ? take_error() : NULL;
        }
        if (got == 0) {
            return PyLong_FromLong(0); /* a small integer, which always exists */
        }
        self->filled += got;
        if (got == most) {
            /* The rest of the record may still be in OpenSSL. */
            Py_ssize_t left = as_size(PyObject_CallMethodNoArgs(self->tls, state->pending));
            if (left < 0) {
                return NULL;
            }
            self->is_through = left == 0;
        }
        if (seconds_now() >= until) {
            break;
        }
    }
    Py_RETURN_NONE;
}

/* Store the sizes of the memory for the data. Return -1 with an exception. */
static int
measure(Reading *self)
{
    self->own = PyObject_Size(self->buffer);
    Py_ssize_t more = self->own < 0 || self->more == Py_None ? 0 : PyObject_Size(self->more);
    self->room = self->own + more;
    return self->own < 0 || more < 0 ? -1 : 0;
}

/* Return whether an attribute is true, or -1 with an exception. */
static int
is_true(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    int truth = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    return truth;
}

static int
set_flag(PyObject *object, PyObject *name, int value)
{
    return PyObject_SetAttr(object, name, value ? Py_True : Py_False);
}

/* Call a method for its effect, with an argument if that is not NULL. Return whether the result is true, or -1 with an
 * exception. */
static int
call(PyObject *object, PyObject *name, PyObject *argument)
{
    PyObject *arguments[] = {object, argument};
    PyObject *result = PyObject_VectorcallMethod(
        name, arguments, (argument == NULL ? 1 : 2) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    int truth = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return truth;
}

/* Return whether something waits to be sent, or -1 with an exception. */
static int
must_answer(const State *state, PyObject *stream, PyObject *outgoing)
{
    int is_unsent = is_true(stream, state->unsent);
    return is_unsent ? is_unsent : is_true(outgoing, state->pending);
}

/* Decrypt records: TLSStream._decrypt. Called with the lock. Return whether to go on, or -1 with an exception. */
static int
decrypt(const State *state, PyObject *stream, PyObject *outgoing, Reading *reading, double share)
{
    double until = seconds_now() + share;
    int goes_on = 1, must = must_answer(state, stream, outgoing);
    if (must) {
        goes_on = must < 0 ? -1 : call(stream, state->answer, NULL);
    }
    if (goes_on < 0 || set_flag(stream, state->is_stuck, !goes_on) < 0) {
        return -1;
    }
    while (goes_on == 1) {
        int has_rest = is_true(stream, state->has_rest);
        has_rest = has_rest ? has_rest : is_true(reading->incoming, state->pending);
        reading->is_through = !has_rest;
        PyObject *result = has_rest < 0 ? NULL : read_until(state, reading, until);
        if (result == NULL) {
            return -1;
        }
        int is_usual = result == Py_None;
        has_rest = !reading->is_through;
        if (is_usual && !has_rest) {
            /* OpenSSL reports the end of the stream by a read of its own, after the last data. */
            has_rest = is_true(reading->incoming, state->eof);
        }
        if (has_rest < 0 || set_flag(stream, state->has_rest, has_rest) < 0) {
            goes_on = -1;
        }
        else if (!is_usual) {
            goes_on = call(stream, state->note, result);
        }
        Py_DECREF(result);
        if (is_usual || seconds_now() >= until) {
            break;
        }
    }
    return goes_on;
}

/* Decrypt records with the lock, after a waiting sender. Return whether to go on, or -1 with an exception. */
static int
decrypt_locked(const State *state, PyObject *stream, PyObject *outgoing, PyObject *gate, PyObject *lock,
               Reading *reading, double share)
{
    if (call(gate, state->acquire, NULL) < 0 || call(gate, state->release, NULL) < 0
            || call(lock, state->acquire, NULL) < 0) {
        return -1;
    }
    int goes_on = set_flag(stream, state->is_inside, 1) < 0 ? -1 : decrypt(state, stream, outgoing, reading, share);
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    int is_left = set_flag(stream, state->is_inside, 0), is_released = call(lock, state->release, NULL);
    if (goes_on < 0) {
        PyErr_Restore(type, error, trace);
    }
    return is_left < 0 || is_released < 0 ? -1 : goes_on;
}

/* Receive more records: TLSStream._fetch. Return whether all that had arrived was received, or -1 with an exception. */
static int
fetch(const State *state, PyObject *stream, PyObject *below, Reading *reading, const Py_buffer *data)
{
    char *memory = data->buf;
    Py_ssize_t longest = HEADER_BYTES + LONGEST_BYTES, room = reading->room - reading->filled;
    if (data->len - reading->end < longest) {
        reading->end -= reading->start;
        memmove(memory, memory + reading->start, (size_t)reading->end);
        reading->start = 0;
    }
    Py_ssize_t stop = reading->start + (room < longest ? longest : room);
    stop = stop < data->len ? stop : data->len;
    PyObject *part = PySequence_GetSlice(reading->records, reading->end, stop), *result = NULL;
    if (part != NULL) {
        PyObject *arguments[] = {below, part};
        result = PyObject_VectorcallMethod(state->receive_into, arguments, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(part);
    }
    if (result == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OSError)) {
            return -1;
        }
        PyObject *error = take_error();
        int is_set = error == NULL ? -1 : PyObject_SetAttr(stream, state->end, error);
        Py_XDECREF(error);
        return is_set < 0 ? -1 : 1;
    }
    Py_ssize_t size = result == Py_None ? 0 : PyLong_AsSsize_t(result);
    int is_end = result != Py_None && size == 0;
    Py_DECREF(result);
    if (size < 0 || size > stop - reading->end) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "receive_into: more bytes than there was room for");
        }
        return -1;
    }
    if (is_end) {
        if (give(state, reading->incoming, reading->records, reading->start, reading->end - reading->start) < 0
                || call(reading->incoming, state->write_eof, NULL) < 0
                || set_flag(stream, state->has_rest, 1) < 0) {
            return -1;
        }
        reading->start = reading->end;
        return 1;
    }
    reading->end += size;
    return reading->end < stop;
}

/* Do the work of receive(). Return -1 with an exception. */
static int
receive_all(const State *state, PyObject *stream, PyObject *outgoing, PyObject *gate, PyObject *lock, PyObject *below,
            Reading *reading, const Py_buffer *data, double turn, double share)
{
    double until = seconds_now() + turn;
    Py_ssize_t longest = HEADER_BYTES + LONGEST_BYTES;
    int has_record = is_true(stream, state->has_record), is_drained = 0, is_ready = has_record;
    is_ready = is_ready ? is_ready : is_true(stream, state->has_rest);
    is_ready = is_ready ? is_ready : must_answer(state, stream, outgoing);
    if (is_ready < 0) {
        return -1;
    }
    for (;;) {
        if (is_ready) {
            int goes_on = decrypt_locked(state, stream, outgoing, gate, lock, reading, share);
            if (goes_on < 0) {
                return -1;
            }
            has_record = record_size(reading->data + reading->start, reading->end - reading->start) > 0;
            if (!goes_on || reading->filled == reading->room || seconds_now() >= until) {
                break;
            }
        }
        if (!has_record) {
            Py_ssize_t room = reading->room - reading->filled;
            if (is_drained || (reading->filled >= longest && longest > room)) {
                break;
            }
            is_drained = fetch(state, stream, below, reading, data);
            if (is_drained < 0) {
                return -1;
            }
        }
        is_ready = 1;
    }
    return set_flag(stream, state->has_record, has_record);
}

PyDoc_STRVAR(receive_doc,
"receive(stream, buffer, more, records, turn, share)\n--\n\n"
"Decrypt the received records, as far as room and time allow. Return the number of bytes.");

static PyObject *
receive(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 6 || !PyMemoryView_Check(args[1]) || !(args[2] == Py_None || PyMemoryView_Check(args[2]))
            || !PyMemoryView_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "receive(stream, buffer: memoryview, more: memoryview | None, "
                        "records: memoryview, turn, share)");
        return NULL;
    }
    const State *state = PyModule_GetState(module);
    double turn = PyFloat_AsDouble(args[4]), share = PyFloat_AsDouble(args[5]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    PyObject *stream = args[0], *kept = NULL, *objects[6] = {NULL};
    PyObject *wanted[] = {state->tls, state->incoming, state->outgoing, state->gate, state->lock, state->stream};
    Reading reading = {.records = args[3], .buffer = args[1], .more = args[2]};
    Py_buffer data = {NULL};
    int is_done = -1;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(wanted); i++) {
        if ((objects[i] = PyObject_GetAttr(stream, wanted[i])) == NULL) {
            goto done;
        }
    }
    kept = PyObject_GetAttr(stream, state->records);
    if (kept == NULL || measure(&reading) < 0 || PyObject_GetBuffer(args[3], &data, PyBUF_WRITABLE) < 0) {
        goto done;
    }
    if (!PyBytes_Check(kept) || PyBytes_GET_SIZE(kept) > data.len) {
        PyErr_SetString(PyExc_ValueError, "receive: records that do not fit");
        goto done;
    }
    reading.tls = objects[0];
    reading.incoming = objects[1];
    reading.data = data.buf;
    reading.end = PyBytes_GET_SIZE(kept);
    memcpy(data.buf, PyBytes_AS_STRING(kept), (size_t)reading.end);
    is_done = receive_all(state, stream, objects[2], objects[3], objects[4], objects[5], &reading, &data, turn, share);
    if (is_done == 0) {
        PyObject *left = PyBytes_FromStringAndSize((const char *)reading.data + reading.start,
                                                   reading.end - reading.start);
        is_done = left == NULL ? -1 : PyObject_SetAttr(stream, state->records, left);
        Py_XDECREF(left);
    }
    if (is_done == 0) {
        int wants = is_true(stream, state->is_stuck);
        wants = wants ? wants : is_true(objects[5], state->reads_want_write);
        is_done = wants < 0 ? -1 : set_flag(stream, state->reads_want_write, wants);
    }

done:
    if (data.obj != NULL) {
        PyBuffer_Release(&data);
    }
    Py_XDECREF(kept);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(objects); i++) {
        Py_XDECREF(objects[i]);
    }
    return is_done < 0 ? NULL : PyLong_FromSsize_t(reading.filled);
}

static PyMethodDef methods[] = {
    {"receive", (PyCFunction)(void (*)(void))receive, METH_FASTCALL, receive_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    char *state = PyModule_GetState(module);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject **name = (PyObject **)(state + names[i].offset);
        if ((*name = PyUnicode_InternFromString(names[i].text)) == NULL) {
            return -1;
        }
    }
    return 0;
}

static void
module_free(void *module)
{
    char *state = PyModule_GetState((PyObject *)module);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject **name = (PyObject **)(state + names[i].offset);
        Py_CLEAR(*name);
    }
}

DEFINE_MODULE("lochws.transport", _records, "Passes TLS records to OpenSSL.", MODULE_EXEC,
              .m_free = module_free)
