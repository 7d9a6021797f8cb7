/* The compiled twin of turn.TurnPython: the wait of a loop's turn, the clocks, and the call of the one channel that
 * is ready, in one call. For the holder of the loop's baton, with epoll and the machine's clock.
 */

#ifdef __linux__

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/epoll.h>

#include "_calls.h"
#include "_clock.h"
#include "_waiting.h"

typedef struct {
    PyObject_HEAD
    PyObject *fileno;           /* the method of the epoll object */
    PyObject *mail, *touched, *added, *again, *timers, *watched, *buffer;
    double longest;             /* seconds of a wait at most */
    double suspicious;          /* seconds of a delay that may be a suspension */
    double due;                 /* when the wait ends at the latest; negative for never */
    double now, wall, ahead;
    Py_ssize_t number;
    struct epoll_event *events; /* room for `room` of them */
    Py_ssize_t room;
    char is_asleep, is_ending, is_suspicious;
} Turn;

static PyObject *
turn_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *epoll, *mail, *touched, *added, *again, *timers, *watched, *buffer;
    double longest, suspicious;
    if (!PyArg_ParseTuple(args, "OOOOO!OO!Odd:Turn", &epoll, &mail, &touched, &added, &PyDict_Type, &again, &timers,
                          &PyDict_Type, &watched, &buffer, &longest, &suspicious)) {
        return NULL;
    }
    PyObject *fileno = PyObject_GetAttrString(epoll, "fileno");
    Turn *self = fileno == NULL ? NULL : (Turn *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_XDECREF(fileno);
        return NULL;
    }
    self->fileno = fileno;
    self->mail = Py_NewRef(mail);
    self->touched = Py_NewRef(touched);
    self->added = Py_NewRef(added);
    self->again = Py_NewRef(again);
    self->timers = Py_NewRef(timers);
    self->watched = Py_NewRef(watched);
    self->buffer = Py_NewRef(buffer);
    self->longest = longest;
    self->suspicious = suspicious;
    self->due = -1.0;
    self->now = seconds_of(CLOCK_MONOTONIC);
    self->wall = seconds_of(CLOCK_REALTIME);
    self->ahead = self->wall - self->now;
    return (PyObject *)self;
}

static int
turn_traverse(Turn *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->fileno);
    Py_VISIT(self->mail);
    Py_VISIT(self->touched);
    Py_VISIT(self->added);
    Py_VISIT(self->again);
    Py_VISIT(self->timers);
    Py_VISIT(self->watched);
    Py_VISIT(self->buffer);
    return 0;
}

static int
turn_clear(Turn *self)
{
    Py_CLEAR(self->watched); /* first: without it, a turn is refused */
    Py_CLEAR(self->fileno);
    Py_CLEAR(self->mail);
    Py_CLEAR(self->touched);
    Py_CLEAR(self->added);
    Py_CLEAR(self->again);
    Py_CLEAR(self->timers);
    Py_CLEAR(self->buffer);
    return 0;
}

static void
turn_dealloc(Turn *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    turn_clear(self);
    PyMem_Free(self->events);
    type->tp_free((PyObject *)self);
    Py_DECREF(type); /* each instance of a heap type owns a reference to it */
}

/* Return whether any of the collections has an item, or -1 with an exception. */
static int
is_any_filled(PyObject *one, PyObject *other)
{
    Py_ssize_t size = PyObject_Size(one);
    if (size == 0) {
        size = PyObject_Size(other);
    }
    return size < 0 ? -1 : size > 0;
}

/* Return whether the turn must not wait, or -1 with an exception. */
static int
is_over(Turn *self, PyObject *until)
{
    int over;
    if (until == Py_None) {
        over = self->is_ending ? 1 : is_any_filled(self->mail, self->mail);
    }
    else {
        PyObject *result = PyObject_CallNoArgs(until);
        over = result == NULL ? -1 : PyObject_IsTrue(result);
        Py_XDECREF(result);
    }
    return over ? over : is_any_filled(self->touched, self->added);
}

/* Return the seconds to wait, negative for no limit; -2 with an exception. */
static double
timeout_of(Turn *self, PyObject *limit, PyObject *when)
{
    double timeout = -1.0;
    if (when != Py_None) {
        timeout = PyFloat_AsDouble(when) - self->now;
        timeout = timeout < 0.0 ? 0.0 : timeout > self->longest ? self->longest : timeout;
    }
    if (limit != Py_None) {
        double most = PyFloat_AsDouble(limit);
        most = most < 0.0 ? 0.0 : most;
        timeout = timeout < 0.0 || most < timeout ? most : timeout;
    }
    return PyErr_Occurred() ? -2.0 : timeout;
}

/* Wait until descriptors are ready, until `due`, or until a signal was handled. Return the number of descriptors, or
 * -1 with an exception. */
static int
wait_for(Turn *self)
{
    PyObject *number = PyObject_CallNoArgs(self->fileno); /* ValueError if it is closed */
    int descriptor = number == NULL ? -1 : (int)PyLong_AsLong(number), count, error;
    Py_XDECREF(number);
    Py_ssize_t most = PyDict_GET_SIZE(self->watched) + 1;
    if (PyErr_Occurred()) {
        return -1;
    }
    if (self->room < most) {
        struct epoll_event *events = PyMem_Realloc(self->events, (size_t)most * sizeof(*events));
        if (events == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->events = events;
        self->room = most;
    }
    double left = self->due < 0.0 ? -1.0 : (self->due - self->now) * 1000.0;
    int milliseconds = self->due < 0.0 ? -1 : left <= 0.0 ? 0 : left < INT_MAX - 1 ? (int)left : INT_MAX - 1;
    milliseconds += milliseconds >= 0 && milliseconds < left; /* never too early */
    count = wait_for_events(descriptor, self->events, (int)most, milliseconds);
    error = errno;
    self->now = seconds_of(CLOCK_MONOTONIC);
    if (count < 0 && error == EINTR) {
        return PyErr_CheckSignals() < 0 ? -1 : 0;
    }
    if (count < 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return count;
}

/* Call a channel that is ready for reading. Return what run() returns. */
static PyObject *
call_channel(Turn *self, const State *state, PyObject *channel, int is_reader, PyObject *when, int has_more)
{
    int is_due = when != Py_None && PyFloat_AsDouble(when) <= self->now;
    int is_waiting = is_any_filled(self->mail, self->mail);
    PyObject *mask = PyLong_FromLong(EPOLLIN), *now = PyFloat_FromDouble(self->now), *result = NULL;
    if (mask != NULL && now != NULL && is_waiting >= 0) {
        PyObject *is_direct = is_reader && !is_due && !has_more && !is_waiting ? Py_True : Py_False;
        PyObject *arguments[] = {channel, mask, self->buffer, now, is_direct};
        result = PyObject_VectorcallMethod(state->on_ready, arguments, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(mask);
    Py_XDECREF(now);
    if (result == NULL) {
        return Py_BuildValue("(ON)", channel, take_exception());
    }
    if (result != Py_None && !PyBool_Check(result)) {
        return result; /* an inbox */
    }
    if (result != Py_None || has_more) {
        return Py_BuildValue("(ON)", channel, result);
    }
    return is_due ? (Py_DECREF(result), PyList_New(0)) : result;
}

/* See Turn.run. */
static PyObject *
run(Turn *self, PyObject *until, PyObject *limit, PyObject *when, int has_more)
{
    const State *state = PyType_GetModuleState(Py_TYPE(self));
    if (self->watched == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "run: the turn has been collected");
        return NULL;
    }
    self->now = seconds_of(CLOCK_MONOTONIC);
    double timeout = timeout_of(self, limit, when);
    if (timeout == -2.0) {
        return NULL;
    }
    self->number++;
    self->due = timeout < 0.0 ? -1.0 : self->now + timeout;
    self->is_asleep = 1; /* before the deques are checked */
    int over = is_over(self, until);
    if (over > 0) {
        self->due = self->now;
    }
    int ready = over < 0 ? -1 : wait_for(self);
    self->is_asleep = 0;
    if (ready < 0) {
        return NULL;
    }
    self->wall = seconds_of(CLOCK_REALTIME);
    double ahead = self->wall - self->now;
    self->is_suspicious = (self->due >= 0.0 && self->now - self->due > self->suspicious)
        || ahead - self->ahead > self->suspicious;
    if (!self->is_suspicious) {
        self->ahead = ahead;
    }
    if (ready == 1 && self->events[0].events == EPOLLIN && !self->is_suspicious) {
        PyObject *descriptor = PyLong_FromLong(self->events[0].data.fd);
        PyObject *channel = descriptor == NULL ? NULL : PyDict_GetItemWithError(self->watched, descriptor);
        Py_XDECREF(descriptor);
        if (channel != NULL) {
            Py_INCREF(channel);
            PyObject *result = call_channel(self, state, channel, until == Py_None, when, has_more);
            Py_DECREF(channel);
            return result;
        }
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    PyObject *descriptors = PyList_New(0);
    for (int index = 0; descriptors != NULL && index < ready; index++) {
        const struct epoll_event *event = &self->events[index];
        PyObject *pair = Py_BuildValue("iI", event->data.fd, event->events);
        if (pair == NULL || PyList_Append(descriptors, pair) < 0) {
            Py_CLEAR(descriptors);
        }
        Py_XDECREF(pair);
    }
    return descriptors;
}

PyDoc_STRVAR(run_doc,
"run(until, limit, when, has_more)\n--\n\n"
"Wait, and call the channel that is ready if it is the only one.");

static PyObject *
turn_run(Turn *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "run(until, limit, when, has_more)");
        return NULL;
    }
    return run(self, args[0], args[1], args[2], args[3] == Py_True);
}

PyDoc_STRVAR(turn_doc,
"turn(loop)\n--\n\n"
"Do what `loop.turn(None)` does. Python code runs only if there is more to do than to call one channel.");

static PyObject *
turn_turn(Turn *self, PyObject *loop)
{
    const State *state = PyType_GetModuleState(Py_TYPE(self));
    int is_filled = self->watched == NULL || PyDict_GET_SIZE(self->again) ? 1 : is_any_filled(self->touched, self->added);
    if (is_filled) {
        return is_filled < 0 ? NULL : PyObject_CallMethodOneArg(loop, state->turn, Py_None);
    }
    PyObject *when = PyObject_GetAttr(self->timers, state->next);
    PyObject *result = when == NULL ? NULL : run(self, Py_None, Py_None, when, 0);
    Py_XDECREF(when);
    if (result != NULL && (PyList_CheckExact(result) || PyTuple_CheckExact(result))) {
        Py_SETREF(result, PyObject_CallMethodOneArg(loop, state->act, result));
    }
    return result;
}

static PyObject *
turn_due(Turn *self, void *Py_UNUSED(nothing))
{
    if (self->due < 0.0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble(self->due);
}

static PyMethodDef turn_methods[] = {
    {"run", (PyCFunction)(void (*)(void))turn_run, METH_FASTCALL, run_doc},
    {"turn", (PyCFunction)turn_turn, METH_O, turn_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef turn_getset[] = {
    {"due", (getter)turn_due, NULL, "When the wait ends at the latest, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef turn_members[] = {
    {"now", T_DOUBLE, offsetof(Turn, now), READONLY, NULL},
    {"wall", T_DOUBLE, offsetof(Turn, wall), READONLY, NULL},
    {"ahead", T_DOUBLE, offsetof(Turn, ahead), 0, NULL},
    {"number", T_PYSSIZET, offsetof(Turn, number), READONLY, NULL},
    {"is_asleep", T_BOOL, offsetof(Turn, is_asleep), 0, NULL},
    {"is_ending", T_BOOL, offsetof(Turn, is_ending), 0, NULL},
    {"is_suspicious", T_BOOL, offsetof(Turn, is_suspicious), READONLY, NULL},
    {"timers", T_OBJECT_EX, offsetof(Turn, timers), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot turn_slots[] = {
    {Py_tp_doc, "The compiled twin of TurnPython."},
    {Py_tp_new, turn_new},
    {Py_tp_traverse, turn_traverse},
    {Py_tp_clear, turn_clear},
    {Py_tp_dealloc, turn_dealloc},
    {Py_tp_methods, turn_methods},
    {Py_tp_getset, turn_getset},
    {Py_tp_members, turn_members},
    {0, NULL},
};

PyType_Spec turn_spec = {
    .name = "lochws.system._calls.Turn",
    .basicsize = sizeof(Turn),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = turn_slots,
};

#endif
