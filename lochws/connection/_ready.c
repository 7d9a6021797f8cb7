/* The compiled twin of ReceivingHalf.on_ready: receiving messages that need nothing but to be handled.
 *
 * It does what most turns need, by reading and writing the slots of a ReceivingHalf, its SendQueue, Inbox and
 * Keepalive. Everything else is left to methods in Python. Only the holder of the loop's baton may call it.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../system/_exceptions.h"
#include "_small.h"

static const char *const half_slots[] = {
    "heard", "_inbox", "_is_plain", "_is_quick", "keepalive", "_pings_sent", "pump", "_queue", "_receive_into",
};
static const char *const inbox_slots[] = {"batches", "last"};
static const char *const keepalive_slots[] = {"waiting_since"};

const char configure_ready_doc[] =
"configure_ready(ReceivingHalf, Inbox, Keepalive)\n--\n\n"
"Set the classes whose slots ready() uses. Call `configure` first.";

PyObject *
configure_ready(PyObject *module, PyObject *args)
{
    State *state = (State *)PyModule_GetState(module), new = *state, old = *state;
    PyTypeObject *meta = &PyType_Type;
    if (!PyArg_ParseTuple(args, "O!O!O!:configure_ready", meta, &new.half_type, meta, &new.inbox_type, meta,
                          &new.keepalive_type) ||
        !find_slots(new.half_type, half_slots, new.half, HALF_SLOTS) ||
        !find_slots(new.inbox_type, inbox_slots, new.inbox, INBOX_SLOTS) ||
        !find_slots(new.keepalive_type, keepalive_slots, new.keepalive, KEEPALIVE_SLOTS)) {
        return NULL;
    }
    Py_INCREF(new.half_type);
    Py_INCREF(new.inbox_type);
    Py_INCREF(new.keepalive_type);
    *state = new;
    /* Last, since letting go of a class may run any code. */
    Py_XDECREF(old.half_type);
    Py_XDECREF(old.inbox_type);
    Py_XDECREF(old.keepalive_type);
    Py_RETURN_NONE;
}

#define HALF(slot) (*slot_at(half, state->half[slot]))
#define IN(slot) (*slot_at(inbox, state->inbox[slot]))

/* Return whether nothing has to be done before or after receiving, so that the reader may get the inbox. */
static int
is_quick(const State *state, PyObject *half)
{
    PyObject *queue = HALF(RECEIVED_QUEUE);
    return HALF(IS_QUICK) == Py_True && HALF(IS_PLAIN) == Py_True && is_a(queue, state->queue_type) &&
           QUEUE(IS_BLOCKED) == Py_False && QUEUE(FAILURE) == Py_None && HALF(PUMP) != NULL &&
           HALF(RECEIVE_INTO) != NULL;
}

/* Return whether nothing else has to be noted or posted once messages were received. */
static int
is_only_handled(const State *state, PyObject *half, PyObject *inbox)
{
    PyObject *keepalive = HALF(KEEPALIVE);
    return is_empty(HALF(PINGS_SENT)) && is_empty(IN(BATCHES)) && is_a(keepalive, state->keepalive_type) &&
           *slot_at(keepalive, state->keepalive[WAITING_SINCE]) == Py_None;
}

/* Receive once. Return what `on_ready` returns. */
static PyObject *
receive(const State *state, PyObject *half, PyObject *buffer, PyObject *now, PyObject *inbox)
{
    PyObject *received = PyList_New(0), *pump = Py_NewRef(HALF(PUMP)), *result = NULL;
    if (received == NULL) {
        Py_DECREF(pump);
        return NULL;
    }
    PyObject *arguments[] = {pump, HALF(RECEIVE_INTO), buffer, received, Py_False};
    PyObject *is_taken = PyObject_VectorcallMethod(state->receive, arguments, 5, NULL);
    Py_DECREF(pump);
    if (is_taken == Py_True && PyList_GET_SIZE(received) && is_only_handled(state, half, inbox)) {
        Py_INCREF(now);
        Py_XSETREF(HALF(HEARD), now);
        Py_INCREF(received);
        Py_XSETREF(IN(LAST), received);
        result = Py_NewRef(inbox);
    }
    else if (is_taken != NULL) {
        result = PyObject_CallMethodObjArgs(half, state->received_all, is_taken, buffer, received, now, Py_True, NULL);
    }
    else if (PyErr_ExceptionMatches(PyExc_OSError)) {
        PyObject *error = take_exception();
        result = PyObject_CallMethodObjArgs(half, state->failed, error, buffer, received, now, NULL);
        Py_DECREF(error);
    }
    Py_XDECREF(is_taken);
    Py_DECREF(received);
    return result;
}

const char ready_doc[] =
"ready(half, mask, buffer, now, is_direct=False)\n--\n\n"
"Do what `half.on_ready` does. Python code runs only if there is more to do than to receive messages.";

PyObject *
call_ready(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const State *state = (State *)PyModule_GetState(module);
    if (count < 4) {
        PyErr_SetString(PyExc_TypeError, "ready(half, mask, buffer, now, is_direct=False)");
        return NULL;
    }
    if (count == 5 && args[4] == Py_True && is_a(args[0], state->half_type) && is_quick(state, args[0])) {
        PyObject *half = args[0], *inbox = HALF(INBOX);
        if (is_a(inbox, state->inbox_type) && is_empty(IN(BATCHES))) {
            Py_INCREF(inbox);
            PyObject *result = receive(state, half, args[2], args[3], inbox);
            Py_DECREF(inbox);
            return result;
        }
    }
    return PyObject_VectorcallMethod(state->on_ready, args, (size_t)count, NULL);
}
