/* What _waiting.c provides: a function for the table of _calls.c, and one for _turn.c. */

#ifdef __linux__
struct epoll_event;

/* Do the same as epoll_wait(), except that EINTR does not prove that a signal has arrived. The caller has the GIL. */
int wait_for_events(int epoll, struct epoll_event *events, int most, int milliseconds);
extern const char wait_doc[];
PyObject *call_wait(PyObject *module, PyObject *const *args, Py_ssize_t count);
#endif
