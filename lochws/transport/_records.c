/* The compiled twin of records.read_records_python: gives TLS records to OpenSSL, one at a time, and reads their data.
 *
 * It calls the methods of Python's own TLS object, which release the GIL while they decrypt.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>
#include <time.h>

#include "../system/_module.h"

/* See records.py. */
#define HEADER_BYTES 5
#define LONGEST_BYTES (16 * 1024 + 2048)

/* The names of the methods that are called. Every import of the module has its own. */
typedef struct {
    PyObject *read, *write, *pending;
} State;

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

PyDoc_STRVAR(read_records_doc,
"read_records(tls, incoming, records, start, end, buffer, more, filled, is_through, seconds)\n--\n\n"
"Give whole records to OpenSSL and read their data, as far as room and time allow.");

static PyObject *
read_records(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const State *state = PyModule_GetState(module);
    if (count != 10 || !PyMemoryView_Check(args[2]) || !PyMemoryView_Check(args[5])
            || !(args[6] == Py_None || PyMemoryView_Check(args[6]))) {
        PyErr_SetString(PyExc_TypeError, "read_records(tls, incoming, records: memoryview, start, end, "
                        "buffer: memoryview, more: memoryview | None, filled, is_through, seconds)");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[3]), end = PyLong_AsSsize_t(args[4]), filled = PyLong_AsSsize_t(args[7]);
    double until = seconds_now() + PyFloat_AsDouble(args[9]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_ssize_t own = PyObject_Size(args[5]), room = own < 0 || args[6] == Py_None ? own : PyObject_Size(args[6]) + own;
    int is_through = PyObject_IsTrue(args[8]), has_record = 0, is_done = 0;
    PyObject *result = Py_None; /* borrowed while it is None */
    Py_buffer data;
    if (PyErr_Occurred() || PyObject_GetBuffer(args[2], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (start < 0 || start > end || end > data.len || filled < 0) {
        PyErr_SetString(PyExc_ValueError, "read_records: a number is out of range");
        goto done;
    }
    while (filled < room) {
        if (is_through) {
            Py_ssize_t size = record_size((const unsigned char *)data.buf + start, end - start);
            if (size == 0) {
                break;
            }
            if (give(state, args[1], args[2], start, size) < 0) {
                goto done;
            }
            start += size;
        }
        is_through = 1;
        Py_ssize_t most = (filled < own ? own : room) - filled;
        Py_ssize_t got = filled < own ? read_data(state, args[0], args[5], filled, own)
                                      : read_data(state, args[0], args[6], filled - own, room - own);
        if (got < 0) {
            if (!PyErr_ExceptionMatches(PyExc_OSError)) {
                goto done;
            }
            result = take_error();
            if (result == NULL) {
                goto done;
            }
            break;
        }
        if (got == 0) {
            result = PyLong_FromLong(0); /* a small integer, which always exists */
            break;
        }
        filled += got;
        if (got == most) {
            /* The rest of the record may still be in OpenSSL. */
            Py_ssize_t left = as_size(PyObject_CallMethodNoArgs(args[0], state->pending));
            if (left < 0) {
                goto done;
            }
            is_through = left == 0;
        }
        if (seconds_now() >= until) {
            break;
        }
    }
    is_done = 1;
    has_record = record_size((const unsigned char *)data.buf + start, end - start) > 0;

done:
    PyBuffer_Release(&data);
    if (!is_done) {
        return NULL;
    }
    if (result == Py_None) {
        Py_INCREF(result);
    }
    return Py_BuildValue("(nnOON)", start, filled, is_through ? Py_False : Py_True, has_record ? Py_True : Py_False,
                         result);
}

static PyMethodDef methods[] = {
    {"read_records", (PyCFunction)(void (*)(void))read_records, METH_FASTCALL, read_records_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->read = PyUnicode_InternFromString("read");
    state->write = PyUnicode_InternFromString("write");
    state->pending = PyUnicode_InternFromString("pending");
    return state->read == NULL || state->write == NULL || state->pending == NULL ? -1 : 0;
}

static void
module_free(void *module)
{
    State *state = PyModule_GetState((PyObject *)module);
    Py_CLEAR(state->read);
    Py_CLEAR(state->write);
    Py_CLEAR(state->pending);
}

DEFINE_MODULE("lochws.transport", _records, "Passes TLS records to OpenSSL.", MODULE_EXEC,
              .m_free = module_free)
