/* The function of _waiting.c in the table of _calls.c. */

#ifdef __linux__
extern const char wait_doc[];
PyObject *call_wait(PyObject *module, PyObject *const *args, Py_ssize_t count);
#endif
