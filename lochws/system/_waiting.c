/* Waiting for descriptors: the compiled twin of select.epoll.poll, for a loop beside threads that compute. Turns
 * use the same function to wait.
 *
 * To wait, a thread releases the GIL, and gets it back when another thread that computes has had it for 5 ms
 * (sys.getswitchinterval). A nearby server answers a hundred times as fast. So if the last wait ended with such a
 * delay, the next ones keep the GIL for as long as such an answer takes. They do not sleep: the thread that computes could
 * not run anyway, and waking up takes longer than many answers. Instead they poll, and between two polls yield the
 * processor to other processes, such as the server. All threads together keep the GIL in vain for 2 % of the time at most:
 * otherwise the waits of many threads would delay each other, and so never cease to keep it.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef __linux__
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <sys/epoll.h>
#include <time.h>

#include "_waiting.h"

#define HOLD_NANOSECONDS 100000
#define HOLDS_APART 50 /* after a hold in vain, no thread holds for that many times as long */
#define DELAY_NANOSECONDS 1000000
/* For how long after a delay the waits keep the GIL. Then one releases it, and shows whether others still compute. */
#define ROW_NANOSECONDS 20000000
#define FEW_EVENTS 16

/* Until when the waits of this thread keep the GIL, since the last one that released it got it back late; or 0. */
static _Thread_local int64_t keeps_until;
/* When any thread may keep it for what is not ready yet. Other interpreters have GILs of their own: hence atomic. */
static _Atomic int64_t next_hold;

static int64_t
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int
wait_for_events(int epoll, struct epoll_event *events, int most, int milliseconds)
{
    int64_t since = keeps_until ? now() : 0;
    if (since < keeps_until && (!milliseconds || since >= next_hold)) {
        int count; /* of events, or negative for an error */
        while ((count = epoll_wait(epoll, events, most, 0)) == 0 && milliseconds && now() - since < HOLD_NANOSECONDS) {
            sched_yield();
        }
        if (count || !milliseconds) {
            return count;
        }
        next_hold = since + (HOLDS_APART + 1) * HOLD_NANOSECONDS;
        errno = EINTR; /* a signal may have arrived, whose handler must run before the wait */
        return -1;
    }
    PyThreadState *state = PyEval_SaveThread();
    int count = epoll_wait(epoll, events, most, milliseconds);
    int error = errno;
    since = now();
    PyEval_RestoreThread(state);
    int64_t back = now();
    keeps_until = back - since > DELAY_NANOSECONDS ? back + ROW_NANOSECONDS : 0;
    errno = error;
    return count;
}

/* Store a timeout in milliseconds, rounded up; -1 for none. Return 0 with an exception if it is not a number. */
static int
parse_timeout(PyObject *timeout, int *milliseconds)
{
    *milliseconds = -1;
    if (timeout == Py_None) {
        return 1;
    }
    double wanted = ceil(PyFloat_AsDouble(timeout) * 1e3);
    if (PyErr_Occurred()) {
        return 0;
    }
    *milliseconds = wanted < 0 ? -1 : wanted < INT_MAX ? (int)wanted : INT_MAX;
    return 1;
}

const char wait_doc[] = PyDoc_STR(
"wait(epoll, timeout, most)\n--\n\n"
"Wait as `epoll.poll(timeout, most)` does, but return early if a signal has arrived or may have arrived.");

PyObject *
call_wait(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    struct epoll_event few[FEW_EVENTS], *events = few;
    int epoll, milliseconds;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "wait(epoll, timeout, most)");
        return NULL;
    }
    int most = (int)PyLong_AsLong(args[2]);
    if (PyErr_Occurred() || !parse_timeout(args[1], &milliseconds) ||
        (epoll = PyObject_AsFileDescriptor(args[0])) < 0) {
        return NULL;
    }
    if (most > FEW_EVENTS && (events = PyMem_New(struct epoll_event, most)) == NULL) {
        return PyErr_NoMemory();
    }
    int found = wait_for_events(epoll, events, most, milliseconds);
    PyObject *list = NULL;
    if (found < 0 && errno != EINTR) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    else if (found >= 0 || PyErr_CheckSignals() == 0) {
        list = PyList_New(found < 0 ? 0 : found);
        for (int i = 0; list != NULL && i < found; i++) {
            PyObject *pair = Py_BuildValue("iI", events[i].data.fd, events[i].events);
            if (pair == NULL) {
                Py_CLEAR(list);
                break;
            }
            PyList_SET_ITEM(list, i, pair);
        }
    }
    if (events != few) {
        PyMem_Free(events);
    }
    return list;
}
#endif
