/* The compiled twin of payload.PayloadPython: a large payload, received straight into its bytes object.
 *
 * Nobody else refers to the bytes object until getvalue() gives it away, so it may be written to. Only the
 * holder of the loop's baton uses a payload, so no two threads use one at once.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "_parts.h"

Payload *
payload_make(PyTypeObject *type, Py_ssize_t length, Py_ssize_t reserved)
{
    Payload *self = (Payload *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->length = length;
    self->bytes = PyBytes_FromStringAndSize(NULL, length < reserved ? length : reserved);
    if (self->bytes == NULL) {
        Py_CLEAR(self);
    }
    return self;
}

static PyObject *
payload_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    Py_ssize_t length, reserved;
    if (!PyArg_ParseTuple(args, "nn:Payload", &length, &reserved)) {
        return NULL;
    }
    if (length < 0 || reserved < 1) {
        PyErr_SetString(PyExc_ValueError, "Payload: length or reserve out of range");
        return NULL;
    }
    return (PyObject *)payload_make(type, length, reserved);
}

static void
payload_dealloc(Payload *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->bytes);
    type->tp_free((PyObject *)self);
    Py_DECREF(type); /* each instance of a heap type owns a reference to it */
}

/* Give a bytes object another size, and keep the first `filled` bytes. Return -1 with an exception. */
static int
resize(PyObject **bytes, Py_ssize_t filled, Py_ssize_t size)
{
#ifdef Py_GIL_DISABLED
    /* Without a GIL, only the thread that created an object may resize it. */
    PyObject *larger = PyBytes_FromStringAndSize(NULL, size);
    if (larger == NULL) {
        return -1;
    }
    memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(*bytes), (size_t)filled);
    Py_SETREF(*bytes, larger);
    return 0;
#else
    (void)filled;
    return _PyBytes_Resize(bytes, size);
#endif
}

/* Make room for `wanted` more bytes, or for at least one if it is 0. Return the room, or -1 with an
 * exception. */
static Py_ssize_t
make_room(Payload *self, Py_ssize_t wanted)
{
    if (self->bytes == NULL) {
        PyErr_SetString(PyExc_ValueError, "the payload was given away");
        return -1;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(self->bytes), needed = self->filled + (wanted ? wanted : 1);
    if (needed > self->length) {
        needed = self->length;
    }
    if (needed > size) {
        if (self->views) {
            PyErr_SetString(PyExc_BufferError, "a view of the payload is in use");
            return -1;
        }
        size = size > self->length / 2 ? self->length : 2 * size;
        if (resize(&self->bytes, self->filled, size < needed ? needed : size) < 0) {
            return -1;
        }
    }
    return PyBytes_GET_SIZE(self->bytes) - self->filled;
}

/* Make room for the next bytes, at most that many. Return how many, or -1 with an exception. */
Py_ssize_t
payload_make_room(Payload *self, Py_ssize_t most)
{
    Py_ssize_t fits = make_room(self, 0);
    if (fits >= 0) {
        self->room = fits < most ? fits : most;
    }
    return fits < 0 ? -1 : self->room;
}

PyDoc_STRVAR(room_doc,
"room(most)\n--\n\n"
"Return a writable view of memory for the next bytes, at most that many.");

static PyObject *
payload_room(Payload *self, PyObject *argument)
{
    Py_ssize_t most = PyLong_AsSsize_t(argument);
    if (most < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "room: less than 0 bytes");
        }
        return NULL;
    }
    return payload_make_room(self, most) < 0 ? NULL : PyMemoryView_FromObject((PyObject *)self);
}

static int
payload_getbuffer(Payload *self, Py_buffer *view, int flags)
{
    if (self->bytes == NULL) {
        PyErr_SetString(PyExc_BufferError, "the payload was given away");
        view->obj = NULL;
        return -1;
    }
    char *start = PyBytes_AS_STRING(self->bytes) + self->filled;
    if (PyBuffer_FillInfo(view, (PyObject *)self, start, self->room, 0, flags) < 0) {
        return -1;
    }
    self->views++;
    return 0;
}

static void
payload_releasebuffer(Payload *self, Py_buffer *Py_UNUSED(view))
{
    self->views--;
}

PyDoc_STRVAR(received_doc,
"received(count)\n--\n\n"
"Take note of the number of bytes received into the last room.");

static PyObject *
payload_received(Payload *self, PyObject *argument)
{
    Py_ssize_t count = PyLong_AsSsize_t(argument);
    if (count == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (count < 0 || count > self->room) {
        PyErr_SetString(PyExc_ValueError, "received: more than there was room for");
        return NULL;
    }
    self->filled += count;
    self->room = 0;
    Py_RETURN_NONE;
}

/* Add bytes that were received elsewhere. Return -1 with an exception. */
int
payload_add(Payload *self, const void *part, Py_ssize_t length)
{
    if (length > self->length - self->filled) {
        PyErr_SetString(PyExc_ValueError, "write: more than the payload holds");
        return -1;
    }
    if (make_room(self, length) < 0) {
        return -1;
    }
    memcpy(PyBytes_AS_STRING(self->bytes) + self->filled, part, (size_t)length);
    self->filled += length;
    self->room = 0;
    return 0;
}

PyDoc_STRVAR(write_doc, "write(part)\n--\n\nAdd bytes that were received elsewhere.");

static PyObject *
payload_write(Payload *self, PyObject *argument)
{
    Py_buffer part;
    if (PyObject_GetBuffer(argument, &part, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    int added = payload_add(self, part.buf, part.len);
    PyBuffer_Release(&part);
    if (added < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(getvalue_doc, "getvalue()\n--\n\nReturn the whole payload, which is given away.");

PyObject *
payload_getvalue(Payload *self, PyObject *Py_UNUSED(nothing))
{
    if (self->bytes == NULL || self->filled != self->length) {
        PyErr_SetString(PyExc_ValueError, "the payload is not complete");
        return NULL;
    }
    if (self->views) {
        /* Someone could still write to it. */
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self->bytes), self->length);
    }
    PyObject *bytes = self->bytes;
    self->bytes = NULL;
    return bytes;
}

/* Free the memory of a payload that will not become complete, unless a view of it is in use. */
void
payload_discard(Payload *self)
{
    if (!self->views) {
        Py_CLEAR(self->bytes);
    }
}

static PyMethodDef payload_methods[] = {
    {"room", (PyCFunction)payload_room, METH_O, room_doc},
    {"received", (PyCFunction)payload_received, METH_O, received_doc},
    {"write", (PyCFunction)payload_write, METH_O, write_doc},
    {"getvalue", (PyCFunction)payload_getvalue, METH_NOARGS, getvalue_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot payload_slots[] = {
    {Py_tp_doc, "Payload(length, reserved)\n--\n\nThe compiled twin of PayloadPython."},
    {Py_tp_new, payload_new},
    {Py_tp_dealloc, payload_dealloc},
    {Py_tp_methods, payload_methods},
    {Py_bf_getbuffer, payload_getbuffer},
    {Py_bf_releasebuffer, payload_releasebuffer},
    {0, NULL},
};

/* Its instances hold bytes only, so the collector need not know them. */
PyType_Spec payload_spec = {
    .name = "lochws.protocol._compiled.Payload",
    .basicsize = sizeof(Payload),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = payload_slots,
};
