/* System calls that hold the GIL: the compiled twins of socket.send, socket.recv_into and os.urandom. The wait of a
 * loop's turn, which releases it, is in _turn.c.
 *
 * Python releases the GIL around every such call, even around those that cannot block. A thread that the call
 * wakes, or that is computing, then takes it, and the caller gets it back when that thread is done or after
 * 5 ms (sys.getswitchinterval). These calls never block (MSG_DONTWAIT) and take microseconds, less than
 * handing over the GIL costs. For more than HOLD_BYTES, copying takes long enough to release it.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#ifdef __linux__
#include <sys/random.h>
#endif

#include "_calls.h"
#include "_module.h"
#include "_waiting.h"

#define HOLD_BYTES (512 * 1024)

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE */
#endif

/* Store the descriptor of a socket. Return 0 with an exception if it has none. */
static int
descriptor_of(PyObject *module, PyObject *sock, int *descriptor)
{
    const State *state = PyModule_GetState(module);
    PyObject *number = PyObject_CallMethodNoArgs(sock, state->fileno);
    if (number == NULL) {
        return 0;
    }
    *descriptor = (int)PyLong_AsLong(number); /* -1 of a closed socket: the call says EBADF */
    Py_DECREF(number);
    return *descriptor != -1 || !PyErr_Occurred();
}

/* Return whether to try again: the call was interrupted, and no signal handler raised. */
static int
is_interrupted(ssize_t done, int error)
{
    return done < 0 && error == EINTR && PyErr_CheckSignals() == 0;
}

/* Return the number of bytes, `full` (stolen) if the call would have blocked, or NULL with an exception. */
static PyObject *
result_of(ssize_t done, int error, PyObject *full)
{
    if (done < 0 && (error == EAGAIN || error == EWOULDBLOCK)) {
        return full;
    }
    Py_DECREF(full);
    if (done < 0) {
        if (!PyErr_Occurred()) {
            errno = error;
            PyErr_SetFromErrno(PyExc_OSError);
        }
        return NULL;
    }
    return PyLong_FromSsize_t(done);
}

PyDoc_STRVAR(send_doc,
"send(sock, data)\n--\n\n"
"Send bytes without blocking. Returns how many the kernel took, 0 if its buffer is full.");

static PyObject *
call_send(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int descriptor, error;
    Py_buffer view;
    ssize_t done;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "send(sock, data)");
        return NULL;
    }
    if (!descriptor_of(module, args[0], &descriptor) || PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    do {
        if (view.len > HOLD_BYTES) {
            Py_BEGIN_ALLOW_THREADS
            done = send(descriptor, view.buf, (size_t)view.len, MSG_DONTWAIT | MSG_NOSIGNAL);
            error = errno;
            Py_END_ALLOW_THREADS
        }
        else {
            done = send(descriptor, view.buf, (size_t)view.len, MSG_DONTWAIT | MSG_NOSIGNAL);
            error = errno;
        }
    } while (is_interrupted(done, error));
    PyBuffer_Release(&view);
    return result_of(done, error, PyLong_FromLong(0));
}

static ssize_t
receive_parts(int descriptor, struct iovec *vectors, int count)
{
    if (count == 1) {
        return recv(descriptor, vectors[0].iov_base, vectors[0].iov_len, MSG_DONTWAIT);
    }
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};
    return recvmsg(descriptor, &message, MSG_DONTWAIT);
}

PyDoc_STRVAR(receive_into_doc,
"receive_into(sock, buffer, more=None)\n--\n\n"
"Receive without blocking, first into `buffer` and then into `more`. Returns the number of bytes, 0 at the end,\n"
"None if there are none yet.");

static PyObject *
call_receive_into(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int descriptor, error, parts = 0;
    Py_buffer views[2];
    struct iovec vectors[2];
    ssize_t done = -1;
    size_t room = 0;
    if (count != 2 && count != 3) {
        PyErr_SetString(PyExc_TypeError, "receive_into(sock, buffer, more=None)");
        return NULL;
    }
    if (!descriptor_of(module, args[0], &descriptor)) {
        return NULL;
    }
    for (; parts < count - 1 && args[parts + 1] != Py_None; parts++) {
        if (PyObject_GetBuffer(args[parts + 1], &views[parts], PyBUF_WRITABLE) < 0) {
            goto failed;
        }
        vectors[parts].iov_base = views[parts].buf;
        vectors[parts].iov_len = (size_t)views[parts].len;
        room += vectors[parts].iov_len;
    }
    do {
        if (room > HOLD_BYTES) {
            Py_BEGIN_ALLOW_THREADS
            done = receive_parts(descriptor, vectors, parts);
            error = errno;
            Py_END_ALLOW_THREADS
        }
        else {
            done = receive_parts(descriptor, vectors, parts);
            error = errno;
        }
    } while (is_interrupted(done, error));
    while (parts) {
        PyBuffer_Release(&views[--parts]);
    }
    Py_INCREF(Py_None);
    return result_of(done, error, Py_None);

failed:
    while (parts) {
        PyBuffer_Release(&views[--parts]);
    }
    return NULL;
}

#ifdef __linux__
PyDoc_STRVAR(random_bytes_doc,
"random_bytes(count)\n--\n\n"
"Return random bytes as os.urandom does, at most 4 KiB.");

static PyObject *
call_random_bytes(PyObject *Py_UNUSED(module), PyObject *argument)
{
    Py_ssize_t count = PyLong_AsSsize_t(argument);
    if (count == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (count < 0 || count > 4096) {
        PyErr_SetString(PyExc_ValueError, "random_bytes: 0 to 4096");
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count);
    if (bytes == NULL) {
        return NULL;
    }
    Py_ssize_t filled = 0;
    while (filled < count) {
        ssize_t done = getrandom(PyBytes_AS_STRING(bytes) + filled, (size_t)(count - filled), 0);
        if (done < 0 && !is_interrupted(done, errno)) {
            Py_DECREF(bytes);
            return PyErr_Occurred() ? NULL : PyErr_SetFromErrno(PyExc_OSError);
        }
        filled += done > 0 ? done : 0;
    }
    return bytes;
}
#endif

static PyMethodDef methods[] = {
    {"send", (PyCFunction)(void (*)(void))call_send, METH_FASTCALL, send_doc},
    {"receive_into", (PyCFunction)(void (*)(void))call_receive_into, METH_FASTCALL, receive_into_doc},
    {"configure_dispatch", configure_dispatch, METH_VARARGS, configure_dispatch_doc},
    {"dispatch", (PyCFunction)(void (*)(void))call_dispatch, METH_FASTCALL, dispatch_doc},
#ifdef __linux__
    {"random_bytes", call_random_bytes, METH_O, random_bytes_doc},
    {"wait", (PyCFunction)(void (*)(void))call_wait, METH_FASTCALL, wait_doc},
#endif
    {NULL, NULL, 0, NULL},
};

/* The names of attributes, and where the state keeps them. */
static const struct {
    const char *text;
    size_t offset;
} names[] = {
    {"fileno", offsetof(State, fileno)}, {"on_ready", offsetof(State, on_ready)},
    {"turn", offsetof(State, turn)}, {"_act", offsetof(State, act)}, {"next", offsetof(State, next)},
    {"dispatch_all", offsetof(State, dispatch_all)}, {"_fill_mailboxes", offsetof(State, fill)},
    {"level", offsetof(State, level)}, {"_returned", offsetof(State, returned)},
};

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject **name = (PyObject **)((char *)state + names[i].offset);
        if ((*name = PyUnicode_InternFromString(names[i].text)) == NULL) {
            return -1;
        }
    }
#ifdef __linux__
    state->turn_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &turn_spec, NULL);
    return state->turn_type == NULL ? -1 : PyModule_AddType(module, state->turn_type);
#else
    return 0;
#endif
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->turn_type);
    Py_VISIT(state->registry_type);
    Py_VISIT(state->setup_type);
    Py_VISIT(state->logger);
    Py_VISIT(state->root);
    Py_VISIT(state->caught);
    return 0;
}

static int
module_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->turn_type);
    Py_CLEAR(state->registry_type);
    Py_CLEAR(state->setup_type);
    Py_CLEAR(state->logger);
    Py_CLEAR(state->root);
    Py_CLEAR(state->caught);
    return 0;
}

static void
module_free(void *module)
{
    State *state = PyModule_GetState((PyObject *)module);
    module_clear((PyObject *)module);
    /* Not before: the collector may clear a module whose functions are still called. */
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject **name = (PyObject **)((char *)state + names[i].offset);
        Py_CLEAR(*name);
    }
}

DEFINE_MODULE("lochws.system", _calls, "System calls that hold the GIL, and the wait of a turn.", MODULE_EXEC,
              .m_traverse = module_traverse, .m_clear = module_clear, .m_free = module_free)
