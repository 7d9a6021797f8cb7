/* The compiled twin of pump.PumpPython: receiving bytes, and taking the whole messages among them, in one call.
 *
 * Only the holder of the loop's baton uses a pump. Other threads read its counters.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <descrobject.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#include "_parts.h"

#define LEAST_GROWTH 16 /* the same as in pump.py */

typedef struct {
    PyObject_HEAD
    PyObject *last_message_at;  /* a float, or None */
    Payload *large;             /* the large message that is being received, or NULL */
    PyObject *kept;             /* bytes: the beginning of a small message, or NULL */
    PyObject *inflater;         /* or NULL */
    PyObject *error;            /* an exception, or NULL */
    /* See the constructor of PumpPython. */
    Py_ssize_t limit, large_bytes, flood_bytes, first_bytes, own_room, event_bytes, reserved_bytes, kept_bytes,
        deflated_bytes;
    /* See the attributes of the protocol Pump. */
    Py_ssize_t count, start, stop, carried, cost, messages, bytes;
    char as_bytes, is_between, repeats;
    char is_filled;             /* whether the last receive has filled the buffer */
    char is_flooded;            /* whether a large message was received last and another one is expected */
} Pump;

static PyObject *
pump_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    Py_ssize_t limit, large, flood, first, reserved, own, event, kept, deflated;
    int as_bytes;
    PyObject *inflater;
    if (!PyArg_ParseTuple(args, "npO(nnnnnnnn):Pump", &limit, &as_bytes, &inflater, &large, &flood, &first, &own,
                          &event, &reserved, &kept, &deflated)) {
        return NULL;
    }
    if (limit < 0 || large < 1 || first < 1 || reserved < 1 || own < 1 || deflated < 1) {
        PyErr_SetString(PyExc_ValueError, "Pump: a number is out of range");
        return NULL;
    }
    Pump *self = (Pump *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    Py_INCREF(Py_None);
    self->last_message_at = Py_None;
    self->limit = limit;
    self->as_bytes = (char)as_bytes;
    if (inflater != Py_None) {
        Py_INCREF(inflater);
        self->inflater = inflater;
    }
    self->large_bytes = large;
    self->flood_bytes = flood;
    self->first_bytes = first;
    self->reserved_bytes = reserved;
    self->kept_bytes = kept;
    self->deflated_bytes = deflated;
    self->own_room = own;
    self->event_bytes = event;
    self->is_between = 1;
    return (PyObject *)self;
}

static void
pump_dealloc(Pump *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->last_message_at);
    Py_XDECREF((PyObject *)self->large);
    Py_XDECREF(self->kept);
    Py_XDECREF(self->inflater);
    Py_XDECREF(self->error);
    type->tp_free((PyObject *)self);
    Py_DECREF(type); /* each instance of a heap type owns a reference to it */
}

/* Return whether a large message is being received behind which others are expected. */
static int
is_flood(const Pump *self)
{
    return self->large != NULL && (self->repeats || self->large->length >= self->flood_bytes);
}

/* Append the event of the large message if it is complete. Return -1 with an exception. */
static int
finish_large(Pump *self, const State *state, Scan *scan, PyObject *events)
{
    Py_ssize_t length = self->large->length;
    if (self->large->filled < length) {
        return 0;
    }
    self->is_flooded = (char)is_flood(self);
    PyObject *content = payload_getvalue(self->large, NULL);
    Py_CLEAR(self->large);
    scan->memory += length;
    return content == NULL ? -1 : append_binary(state, scan, events, content);
}

/* Return whether the beginning of an incomplete frame may be kept until the rest has arrived. Invalid text must be
 * refused without waiting for the rest, so a compressed message is kept only if the buffer is full: then more bytes
 * have usually arrived already. A beginning that grows little by little is left to the receiver, which checks every byte
 * once; here all of it is checked and copied each time. */
static int
may_keep(const Pump *self, const unsigned char *at, const unsigned char *end, Py_ssize_t head, uint64_t length)
{
    if (length > (uint64_t)self->kept_bytes || end - at > LEAST_GROWTH * self->count) {
        return 0;
    }
    if (at[0] & DEFLATED) {
        return self->is_filled && !may_exceed(length, self->limit);
    }
    return length <= (uint64_t)self->limit && (at[0] != FINAL_TEXT || is_utf8(at + head, end - at - head, 0));
}

/* Take all whole messages, and the beginning of another one. Return where the first frame begins that needs more
 * care, or NULL with an exception. */
static const unsigned char *
take_messages(Pump *self, Scan *scan, const unsigned char *at, const unsigned char *end, PyObject *events)
{
    const State *state = PyType_GetModuleState(Py_TYPE(self));
    if (self->large != NULL) {
        Py_ssize_t missing = self->large->length - self->large->filled;
        Py_ssize_t part = end - at < missing ? end - at : missing;
        if (payload_add(self->large, at, part) < 0 || finish_large(self, state, scan, events) < 0) {
            return NULL;
        }
        at += part;
    }
    if (at == end) {
        return at;
    }
    self->is_flooded = 0;
    at = scan_frames(state, scan, at, end, self->limit, events, self->inflater, self->as_bytes);
    Py_ssize_t head;
    uint64_t length;
    if (at == NULL || at == end || !read_head(at, end, self->inflater != NULL, &head, &length)
            || length <= (uint64_t)(end - at - head)) {
        return at;
    }
    if (at[0] == FINAL_BINARY && length >= (uint64_t)self->large_bytes && length <= (uint64_t)self->limit) {
        self->large = payload_make(state->payload_type, (Py_ssize_t)length, self->reserved_bytes);
        if (self->large == NULL || payload_add(self->large, at + head, end - at - head) < 0) {
            return NULL;
        }
        return end;
    }
    if (may_keep(self, at, end, head, length)) {
        Py_XSETREF(self->kept, PyBytes_FromStringAndSize((const char *)at, end - at));
        return self->kept == NULL ? NULL : end;
    }
    return at;
}

/* Return how much of a buffer of that many bytes is used. */
static Py_ssize_t
usable(const Pump *self, Py_ssize_t size)
{
    /* Another large message is expected behind one of a flood. The part of it that lands in the buffer is copied. */
    if ((self->is_flooded || is_flood(self)) && size > self->first_bytes) {
        size = self->first_bytes;
    }
    return self->inflater != NULL && size > self->deflated_bytes ? self->deflated_bytes : size;
}

/* Call `receive_into` with the memory for the next bytes: the rest of the large message, and the buffer from `start`
 * to `stop`. Store the number of bytes, how many of them are the large message's, and whether to receive again at
 * once. Return 0 with an exception. */
static int
receive_once(Pump *self, PyObject *receive_into, PyObject *buffer, Py_ssize_t whole_size, Py_ssize_t start,
             Py_ssize_t stop, Py_ssize_t *own, int *is_full)
{
    Py_ssize_t own_room = self->own_room * whole_size, size = stop - start;
    int is_short = self->is_flooded || is_flood(self);
    PyObject *part = NULL;
    if (size < whole_size) {
        buffer = part = PySequence_GetSlice(buffer, start, stop);
        if (part == NULL) {
            return 0;
        }
    }
    PyObject *large = (PyObject *)self->large, *result;
    int is_huge = large != NULL && self->large->length >= self->flood_bytes; /* few should be in memory at once */
    Py_ssize_t room = 0;
    if (large == NULL) {
        result = PyObject_Vectorcall(receive_into, &buffer, 1, NULL);
    }
    else if ((room = payload_make_room(self->large, own_room)) < 0) {
        result = NULL;
    }
    else {
        PyObject *arguments[] = {large, buffer};
        Py_INCREF(large);
        result = PyObject_Vectorcall(receive_into, arguments, 2, NULL);
        Py_DECREF(large);
    }
    Py_XDECREF(part);
    if (result == NULL) {
        if (large != NULL && large == (PyObject *)self->large && PyErr_ExceptionMatches(PyExc_OSError)) {
            /* Nothing more will arrive, and the traceback may refer to the payload. */
            payload_discard(self->large);
            Py_CLEAR(self->large);
        }
        return 0;
    }
    Py_ssize_t count = result == Py_None ? -1 : PyLong_AsSsize_t(result);
    Py_DECREF(result);
    if ((count == -1 && PyErr_Occurred()) || count > room + size || large != (PyObject *)self->large) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "receive: more bytes than there was room for");
        }
        return 0;
    }
    self->count = count;
    *own = count < room ? count : room;
    *is_full = is_short && !is_huge && count == room + size;
    return 1;
}

/* Store the exception that decompressing has raised. The receiver raises it. */
static void
take_error(Pump *self)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyException_SetTraceback(value, Py_None); /* it would keep the data alive */
    Py_XSETREF(self->error, value);
    Py_DECREF(type);
    Py_XDECREF(trace);
}

/* Receive once, and take the messages. Return whether bytes have arrived and all of them were taken, or -1 with an
 * exception. */
static int
receive_part(Pump *self, PyObject *const *args, const Py_buffer *view, Scan *scan, int *is_full)
{
    Py_ssize_t own = 0, size = usable(self, view->len);
    Py_ssize_t kept = self->kept == NULL ? 0 : PyBytes_GET_SIZE(self->kept);
    /* A long beginning, or a buffer smaller than usual, leaves little room. Then the receiver joins both. */
    int is_apart = kept > size / 2;
    if (is_apart) {
        kept = 0;
    }
    else if (kept) {
        memcpy(view->buf, PyBytes_AS_STRING(self->kept), (size_t)kept);
    }
    self->start = self->stop = 0;
    self->count = -1;
    self->is_filled = 0;
    if (!receive_once(self, args[0], args[1], view->len, kept, size, &own, is_full)) {
        return -1;
    }
    if (self->count <= 0) {
        return 0;
    }
    self->bytes += self->count;
    self->carried += self->count;
    self->stop = kept + self->count - own;
    self->is_filled = self->stop == size;
    if (own) {
        self->large->filled += own;
        self->large->room = 0;
        if (finish_large(self, PyType_GetModuleState(Py_TYPE(self)), scan, args[2]) < 0) {
            return -1;
        }
    }
    if (self->stop && self->is_between && !is_apart) {
        if (kept) {
            Py_CLEAR(self->kept);
        }
        const unsigned char *data = view->buf, *at = take_messages(self, scan, data, data + self->stop, args[2]);
        if (at != NULL) {
            self->start = at - data;
        }
        else if (self->inflater != NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
            take_error(self);
        }
        else {
            return -1;
        }
    }
    return self->start == self->stop;
}

PyDoc_STRVAR(receive_doc,
"receive(receive_into, buffer, events, exact)\n--\n\n"
"Receive once, or a flood of large messages. Return whether bytes have arrived and all of them were taken.");

static PyObject *
pump_receive(Pump *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyList_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "receive(receive_into, buffer, events: list, exact)");
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[1], &view, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    Scan scan = {NULL, 0};
    Py_ssize_t before = PyList_GET_SIZE(args[2]), received = 0;
    int is_full = 0, is_taken;
    do {
        is_taken = receive_part(self, args, &view, &scan, &is_full);
        if (is_taken < 0 || self->count <= 0) {
            break;
        }
        received += self->count;
    } while (is_taken && is_full && self->repeats && received < view.len);
    if (received) {
        is_taken = is_taken < 0 ? -1 : is_taken || self->count <= 0;
        self->count = received;
    }
    Py_ssize_t number = PyList_GET_SIZE(args[2]) - before;
    if (number > 0 && scan.received != NULL) {
        self->messages += number;
        Py_INCREF(scan.received);
        Py_SETREF(self->last_message_at, scan.received);
        self->cost = (self->carried > scan.memory ? self->carried : scan.memory) + number * self->event_bytes;
        self->carried = 0;
    }
    Py_XDECREF(scan.received);
    PyBuffer_Release(&view);
    return is_taken < 0 ? NULL : PyBool_FromLong(is_taken);
}

PyDoc_STRVAR(scan_doc,
"scan(data, position, events)\n--\n\n"
"Take the messages at the beginning of bytes that have been received. Return where they end.\n\n"
"The data begins with `kept`, which is cleared.");

static PyObject *
pump_scan(Pump *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    if (count != 3 || !PyList_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "scan(data, position, events: list)");
        return NULL;
    }
    Py_ssize_t position = PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const unsigned char *data = view.buf, *at = NULL;
    Scan scan = {NULL, 0};
    if (position < 0 || position > view.len) {
        PyErr_SetString(PyExc_ValueError, "scan: position out of range");
    }
    else {
        Py_CLEAR(self->kept);
        at = take_messages(self, &scan, data + position, data + view.len, args[2]);
    }
    position = at == NULL ? 0 : at - data;
    Py_XDECREF(scan.received);
    PyBuffer_Release(&view);
    return at == NULL ? NULL : PyLong_FromSsize_t(position);
}

static PyObject *
pump_is_inside(Pump *self, void *Py_UNUSED(nothing))
{
    return PyBool_FromLong(self->large != NULL);
}

static PyObject *
pump_get_kept(Pump *self, void *Py_UNUSED(nothing))
{
    return self->kept == NULL ? PyBytes_FromStringAndSize(NULL, 0) : Py_NewRef(self->kept);
}

static PyMethodDef pump_methods[] = {
    {"receive", (PyCFunction)(void (*)(void))pump_receive, METH_FASTCALL, receive_doc},
    {"scan", (PyCFunction)(void (*)(void))pump_scan, METH_FASTCALL, scan_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pump_getset[] = {
    {"is_inside", (getter)pump_is_inside, NULL, "Whether a large message is being received.", NULL},
    {"kept", (getter)pump_get_kept, NULL, "The beginning of a small message whose rest has not arrived yet.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef pump_members[] = {
    {"count", T_PYSSIZET, offsetof(Pump, count), READONLY, NULL},
    {"start", T_PYSSIZET, offsetof(Pump, start), READONLY, NULL},
    {"stop", T_PYSSIZET, offsetof(Pump, stop), READONLY, NULL},
    {"cost", T_PYSSIZET, offsetof(Pump, cost), READONLY, NULL},
    {"carried", T_PYSSIZET, offsetof(Pump, carried), 0, NULL},
    {"messages", T_PYSSIZET, offsetof(Pump, messages), 0, NULL},
    {"bytes", T_PYSSIZET, offsetof(Pump, bytes), 0, NULL},
    {"is_between", T_BOOL, offsetof(Pump, is_between), 0, NULL},
    {"repeats", T_BOOL, offsetof(Pump, repeats), 0, NULL},
    {"last_message_at", T_OBJECT_EX, offsetof(Pump, last_message_at), 0, NULL},
    {"error", T_OBJECT, offsetof(Pump, error), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot pump_slots[] = {
    {Py_tp_doc, "Pump(limit, as_bytes, inflater, sizes)\n--\n\nThe compiled twin of PumpPython."},
    {Py_tp_new, pump_new},
    {Py_tp_dealloc, pump_dealloc},
    {Py_tp_methods, pump_methods},
    {Py_tp_getset, pump_getset},
    {Py_tp_members, pump_members},
    {0, NULL},
};

/* The objects that its instances refer to do not refer back, so the collector need not know them. */
PyType_Spec pump_spec = {
    .name = "lochws.protocol._compiled.Pump",
    .basicsize = sizeof(Pump),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pump_slots,
};
