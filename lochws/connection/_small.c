/* The shortest path of a message: it joins those that gather or wait, or, if it is small, is framed, masked and sent.
 *
 * `push_small` reads and writes the slots of a SendQueue, its Outgoing and its MaskKeys. No Python code runs
 * between its checks and its records, and the GIL is held throughout: while nothing holds the queue's lock,
 * this is as good as holding it, and neither another thread nor Ctrl-C can come in between. The call never
 * blocks (MSG_DONTWAIT) and takes microseconds.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "../protocol/_frames.h"
#ifdef __linux__
#include "../system/_clock.h"
#endif
#include "../system/_module.h"
#include "_small.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE */
#endif

/* The maximum size of a small message, in bytes. */
#define SMALL_BYTES 4096

static const char *const queue_slots[] = {
    "_asked", "_corks", "_drop_off_limit", "_dropped_off", "_due", "failure", "_follows", "_gather_bytes", "_gathering",
    "is_blocked", "_is_shut", "_is_unsure", "_keys", "_last_write", "_limit", "_lock", "_outgoing", "_plain_bytes",
    "_socket", "_taps", "_writer",
};
static const char *const outgoing_slots[] = {
    "bytes_sent", "_completed", "_end", "extra", "_full_at", "items", "messages_sent", "_next_offset", "plans", "_prefix",
    "raw", "rest", "size", "_start",
};
static const char *const keys_slots[] = {"block", "position"};

PyDoc_STRVAR(configure_doc,
"configure(SendQueue, Outgoing, MaskKeys, kept_items, monotonic, fileno)\n--\n\n"
"Set the classes whose slots push_small() uses, a limit that it keeps to, and the functions that it calls.");

static PyObject *
configure(PyObject *module, PyObject *args)
{
    State *state = (State *)PyModule_GetState(module), new = *state, old = *state;
    PyTypeObject *meta = &PyType_Type;
    if (!PyArg_ParseTuple(args, "O!O!O!nOO:configure", meta, &new.queue_type, meta, &new.outgoing_type, meta,
                          &new.keys_type, &new.kept_items, &new.monotonic, &new.fileno) ||
        !find_slots(new.queue_type, queue_slots, new.queue, QUEUE_SLOTS) ||
        !find_slots(new.outgoing_type, outgoing_slots, new.outgoing, OUTGOING_SLOTS) ||
        !find_slots(new.keys_type, keys_slots, new.keys, KEYS_SLOTS)) {
        return NULL;
    }
    Py_INCREF(new.queue_type);
    Py_INCREF(new.outgoing_type);
    Py_INCREF(new.keys_type);
    Py_INCREF(new.monotonic);
    Py_INCREF(new.fileno);
    *state = new;
    /* Last, since letting go of a class may run any code. */
    Py_XDECREF(old.queue_type);
    Py_XDECREF(old.outgoing_type);
    Py_XDECREF(old.keys_type);
    Py_XDECREF(old.monotonic);
    Py_XDECREF(old.fileno);
    Py_RETURN_NONE;
}

/* Replace the object in a slot, and steal the reference to the new one. */
static inline void
put(PyObject **slot, PyObject *value)
{
    PyObject *old = *slot;
    *slot = value;
    Py_XDECREF(old); /* a number, None, or empty bytes: none of them runs code */
}

/* Like `put`, but steals nothing. */
static inline void
set(PyObject **slot, PyObject *value)
{
    Py_INCREF(value);
    put(slot, value);
}

/* Read a number that is not negative. Return -1, and set no exception, if there is none. */
static inline Py_ssize_t
number_in(PyObject *value)
{
    if (!is_a(value, &PyLong_Type)) {
        return -1;
    }
    Py_ssize_t number = PyLong_AsSsize_t(value);
    if (number == -1) {
        PyErr_Clear();
    }
    return number;
}

#define OUT(slot) (*slot_at(outgoing, state->outgoing[slot]))
#define KEY(slot) (*slot_at(keys, state->keys[slot]))

/* Return whether a message may be sent now: nothing waits, gathers or is under way. */
static int
is_idle(const State *state, PyObject *queue, PyObject *outgoing)
{
    PyObject *rest = OUT(REST);
    return QUEUE(WRITER) == Py_None && QUEUE(IS_SHUT) == Py_False && QUEUE(GATHERING) == Py_False &&
           is_empty(QUEUE(DROPPED_OFF)) && is_empty(QUEUE(CORKS)) && is_empty(QUEUE(TAPS)) &&
           OUT(PLANS) == Py_False && is_empty(OUT(RAW)) && is_empty(OUT(PREFIX)) && number_in(OUT(SIZE)) == 0 &&
           is_a(rest, &PyBytes_Type) && PyBytes_GET_SIZE(rest) == 0;
}

/* Return the time in monotonic seconds as an object, or NULL with an exception. */
static PyObject *
monotonic(const State *state)
{
#ifdef __linux__
    (void)state;
    return PyFloat_FromDouble(seconds_of(CLOCK_MONOTONIC));
#else
    return PyObject_CallNoArgs(state->monotonic);
#endif
}

/* Return the seconds from the time in a slot until now; NaN if there is none, perhaps with an exception. */
static double
seconds_since(const State *state, PyObject *then)
{
    if (!is_a(then, &PyFloat_Type)) {
        return Py_NAN;
    }
    PyObject *now = monotonic(state);
    if (now == NULL) {
        return Py_NAN;
    }
    double seconds = PyFloat_AsDouble(now) - PyFloat_AS_DOUBLE(then);
    Py_DECREF(now);
    return seconds;
}

/* Hand a message over to those that gather, unless a write is due. Return 1 if done, -1 with an exception. */
static int
hand_over(const State *state, PyObject *queue, PyObject *message, Py_ssize_t size)
{
    PyObject *dropped_off = QUEUE(DROPPED_OFF);
    Py_ssize_t count = is_a(dropped_off, &PyList_Type) ? PyList_GET_SIZE(dropped_off) : PY_SSIZE_T_MAX;
    if (count >= number_in(QUEUE(DROP_OFF_LIMIT)) || (count + 1) * size > number_in(QUEUE(GATHER_BYTES)) ||
        !(seconds_since(state, QUEUE(DUE)) <= 0.0)) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return PyList_Append(dropped_off, message) < 0 ? -1 : 1;
}

/* Return whether nothing holds the queue's lock. There may be an exception if not. */
static int
is_unlocked(const State *state, PyObject *queue)
{
    PyObject *is_locked = PyObject_CallMethodNoArgs(QUEUE(LOCK), state->locked);
    Py_XDECREF(is_locked);
    return is_locked == Py_False;
}

/* Return the descriptor to send to; -1, perhaps with an exception, if the lock is held or the socket closed. */
static int
descriptor_of(const State *state, PyObject *queue)
{
    PyObject *number = is_unlocked(state, queue) ? PyObject_CallOneArg(state->fileno, QUEUE(SOCKET)) : NULL;
    int descriptor = (int)number_in(number);
    Py_XDECREF(number);
    return descriptor;
}

/* Queue a message of any size if nothing else has to be done: others are queued already, and a thread is bound
 * to write them. Return 1 if done, -1 with an exception. */
static int
wait_behind(const State *state, PyObject *queue, PyObject *message, Py_ssize_t size)
{
    PyObject *outgoing = QUEUE(OUTGOING);
    if (size >= number_in(QUEUE(PLAIN_BYTES)) || QUEUE(LOCK) == NULL || !is_a(outgoing, state->outgoing_type) ||
        QUEUE(IS_SHUT) != Py_False || !is_empty(QUEUE(DROPPED_OFF)) || !is_empty(OUT(RAW))) {
        return 0;
    }
    /* Messages that may still be handed over need room as well. */
    Py_ssize_t reserved = number_in(OUT(EXTRA)) + number_in(QUEUE(DROP_OFF_LIMIT)) * SMALL_BYTES;
    Py_ssize_t waiting = number_in(OUT(SIZE)), after = waiting + masked_head(size) + size;
    if (!is_a(OUT(ITEMS), &PyList_Type) || waiting <= 0 || reserved < 0 ||
        waiting + size + reserved > number_in(QUEUE(LIMIT))) {
        return 0;
    }
    /* The loop comes when a full kernel has room. It was asked to come for those that gather. */
    if (QUEUE(IS_BLOCKED) != Py_True &&
        (QUEUE(GATHERING) != Py_True || QUEUE(ASKED) != Py_True || QUEUE(WRITER) != Py_None ||
         !is_empty(QUEUE(CORKS)) || OUT(PLANS) != Py_False || after >= number_in(QUEUE(GATHER_BYTES)) ||
         !(seconds_since(state, QUEUE(DUE)) <= 0.0))) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (!is_unlocked(state, queue)) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *new_size = PyLong_FromSsize_t(after);
    if (new_size == NULL || PyList_Append(OUT(ITEMS), message) < 0) {
        Py_XDECREF(new_size);
        return -1;
    }
    put(&OUT(SIZE), new_size);
    return 1;
}

/* Do in Python what is left to do. If Ctrl-C interrupts that, do it once more. */
static PyObject *
finish(const State *state, PyObject *queue)
{
    PyObject *result = PyObject_CallMethodNoArgs(queue, state->after);
    if (result == NULL) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        Py_XDECREF(PyObject_CallMethodNoArgs(queue, state->after));
        PyErr_Restore(type, value, traceback);
    }
    return result;
}

/* Send a message if nothing has to be done first: see push_small(). */
static PyObject *
send_alone(const State *state, PyObject *queue, PyObject *message, int first, const unsigned char *content,
           Py_ssize_t size)
{
    PyObject *outgoing = QUEUE(OUTGOING), *keys = QUEUE(KEYS);
    if (QUEUE(SOCKET) == Py_None || QUEUE(LOCK) == NULL || !is_a(outgoing, state->outgoing_type) ||
        !is_a(keys, state->keys_type) || !is_idle(state, queue, outgoing)) {
        Py_RETURN_NONE;
    }
    PyObject *items = OUT(ITEMS), *block = KEY(BLOCK);
    Py_ssize_t position = number_in(KEY(POSITION)), end = number_in(OUT(START)) + 1;
    Py_ssize_t messages = number_in(OUT(COMPLETED)) + 1, sent = number_in(OUT(BYTES_SENT));
    if (!is_a(block, &PyBytes_Type) || position < 0 || position > PyBytes_GET_SIZE(block) - 4 ||
        !is_a(items, &PyList_Type) || end != PyList_GET_SIZE(items) + 1 || end >= state->kept_items ||
        messages < 1 || sent < 0 || sent + size + 8 >= number_in(OUT(FULL_AT))) {
        Py_RETURN_NONE; /* more than the records below has to be done */
    }
    PyObject *follows = QUEUE(FOLLOWS);
    double least = is_a(follows, &PyFloat_Type) ? PyFloat_AS_DOUBLE(follows) : Py_NAN;
    int descriptor = seconds_since(state, QUEUE(LAST_WRITE)) > least ? descriptor_of(state, queue) : -1;
    if (descriptor < 0) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    unsigned char frame[SMALL_BYTES + 8];
    const unsigned char *key = (unsigned char *)PyBytes_AS_STRING(block) + position;
    size = write_frame(frame, first, content, size, key) - frame;

    /* Nothing may fail once bytes have been sent, so the records are made first. */
    PyObject *new_position = PyLong_FromSsize_t(position + 4), *new_end = PyLong_FromSsize_t(end);
    PyObject *new_messages = PyLong_FromSsize_t(messages), *new_sent = PyLong_FromSsize_t(sent + size);
    PyObject *result = NULL;
    if (new_position == NULL || new_end == NULL || new_messages == NULL || new_sent == NULL ||
        PyList_Append(items, message) < 0) {
        goto done;
    }
    ssize_t taken = send(descriptor, frame, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (taken <= 0) {
        int error = errno;
        PyList_SetSlice(items, end - 1, end, NULL);
        if (taken == 0 || error == EAGAIN || error == EWOULDBLOCK || error == EINTR) {
            result = Py_NewRef(Py_None); /* queued, it waits for room or is tried again */
        }
        else {
            PyObject *text = PyUnicode_DecodeLocale(strerror(error), "surrogateescape");
            PyObject *failure = PyObject_CallFunction(PyExc_OSError, "iN", error, text);
            if (failure != NULL) {
                put(&QUEUE(FAILURE), failure);
                set(&QUEUE(IS_SHUT), Py_True);
                result = Py_NewRef(Py_False);
            }
        }
        goto done;
    }
    set(&KEY(POSITION), new_position);
    if (taken == size) {
        set(&OUT(START), new_end);
        set(&OUT(COMPLETED), new_messages);
        set(&OUT(MESSAGES_SENT), new_messages);
        set(&OUT(BYTES_SENT), new_sent);
        result = Py_NewRef(Py_True);
    }
    else {
        /* As in Outgoing.took(), for a batch of one message. */
        PyObject *rest = PyBytes_FromStringAndSize((char *)frame + taken, size - taken);
        PyObject *left = PyLong_FromSsize_t(size - taken), *offset = PyLong_FromLong(0);
        Py_XSETREF(new_sent, PyLong_FromSsize_t(sent + taken));
        if (rest == NULL || left == NULL || offset == NULL || new_sent == NULL) {
            PyErr_Clear(); /* out of memory, perhaps for the rest of this call, too: nothing may follow that part */
            shutdown(descriptor, SHUT_RDWR);
            PyList_SetSlice(items, end - 1, end, NULL);
            set(&QUEUE(IS_UNSURE), Py_True);
        }
        else {
            set(&OUT(REST), rest);
            set(&OUT(SIZE), left);
            set(&OUT(NEXT_OFFSET), offset);
            set(&OUT(END), new_end);
            set(&OUT(BYTES_SENT), new_sent);
            set(&QUEUE(IS_BLOCKED), Py_True);
        }
        result = Py_NewRef(Py_False);
        Py_XDECREF(rest);
        Py_XDECREF(left);
        Py_XDECREF(offset);
    }
    if (result != NULL) {
        PyObject *now = monotonic(state);
        if (now == NULL) {
            PyErr_Clear(); /* the next message is taken for a lone one, too */
        }
        else {
            put(&QUEUE(LAST_WRITE), now);
        }
    }
done:
    Py_XDECREF(new_position);
    Py_XDECREF(new_end);
    Py_XDECREF(new_messages);
    Py_XDECREF(new_sent);
    if (result == Py_False) {
        Py_SETREF(result, finish(state, queue));
    }
    return result;
}

PyDoc_STRVAR(push_small_doc,
"push_small(queue, message)\n--\n\n"
"Unless something has to be done first, queue a plain message of a SendQueue behind others, or send a small one.\n\n"
"Returns:\n"
"    True; None, having done nothing, if `push` should be called.\n\n"
"Raises:\n"
"    TransportFail: the network failed; the message was not sent whole.");

static PyObject *
push_small(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const State *state = (State *)PyModule_GetState(module);
    if (count != 2 || state->queue_type == NULL) {
        PyErr_SetString(PyExc_TypeError, "push_small(queue: SendQueue, message)");
        return NULL;
    }
    if (!PyObject_TypeCheck(args[0], state->queue_type)) {
        Py_RETURN_NONE; /* its class is older: the user has reloaded the module */
    }
    PyObject *queue = args[0], *message = args[1];
    const unsigned char *content;
    Py_ssize_t size;
    int first;
    /* The socket is the last slot that a new queue sets. */
    if (QUEUE(SOCKET) == NULL || !look_at_plain(message, &first, &content, &size)) {
        Py_RETURN_NONE;
    }
    int is_done = size > SMALL_BYTES ? 0 : hand_over(state, queue, message, size);
    if (!is_done) {
        is_done = wait_behind(state, queue, message, size);
    }
    if (is_done || size > SMALL_BYTES) {
        return is_done < 0 ? NULL : Py_NewRef(is_done ? Py_True : Py_None);
    }
    return send_alone(state, queue, message, first, content, size);
}

static PyMethodDef methods[] = {
    {"configure", configure, METH_VARARGS, configure_doc},
    {"push_small", (PyCFunction)(void (*)(void))push_small, METH_FASTCALL, push_small_doc},
    {"configure_ready", configure_ready, METH_VARARGS, configure_ready_doc},
    {"ready", (PyCFunction)(void (*)(void))call_ready, METH_FASTCALL, ready_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    State *state = (State *)PyModule_GetState(module);
    state->locked = PyUnicode_InternFromString("locked");
    state->after = PyUnicode_InternFromString("_after_small");
    state->receive = PyUnicode_InternFromString("receive");
    state->on_ready = PyUnicode_InternFromString("on_ready");
    state->received_all = PyUnicode_InternFromString("_after_receiving");
    state->failed = PyUnicode_InternFromString("_after_error");
    return state->locked == NULL || state->after == NULL || state->receive == NULL || state->on_ready == NULL ||
                   state->received_all == NULL || state->failed == NULL ? -1 : 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = (State *)PyModule_GetState(module);
    Py_VISIT(state->queue_type);
    Py_VISIT(state->outgoing_type);
    Py_VISIT(state->keys_type);
    Py_VISIT(state->monotonic);
    Py_VISIT(state->fileno);
    Py_VISIT(state->half_type);
    Py_VISIT(state->inbox_type);
    Py_VISIT(state->keepalive_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    State *state = (State *)PyModule_GetState(module);
    Py_CLEAR(state->queue_type);
    Py_CLEAR(state->outgoing_type);
    Py_CLEAR(state->keys_type);
    Py_CLEAR(state->monotonic);
    Py_CLEAR(state->fileno);
    Py_CLEAR(state->half_type);
    Py_CLEAR(state->inbox_type);
    Py_CLEAR(state->keepalive_type);
    return 0;
}

static void
module_free(void *module)
{
    State *state = (State *)PyModule_GetState((PyObject *)module);
    module_clear((PyObject *)module);
    /* Not before: the collector may clear a module whose functions are still called. */
    Py_CLEAR(state->locked);
    Py_CLEAR(state->after);
    Py_CLEAR(state->receive);
    Py_CLEAR(state->on_ready);
    Py_CLEAR(state->received_all);
    Py_CLEAR(state->failed);
}

DEFINE_MODULE("lochws.connection", _small, "The shortest paths of small messages, sent and received.", MODULE_EXEC,
              .m_traverse = module_traverse, .m_clear = module_clear, .m_free = module_free)
