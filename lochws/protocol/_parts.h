/* What the files of the compiled part offer to _compiled.c, which makes a module of it. */

#include <Python.h>

/* _scanning.c */
extern const char scanning_configure_doc[], scanning_scan_doc[];
PyObject *scanning_configure(PyObject *module, PyObject *args);
PyObject *scanning_scan(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* _utf8.c: the str, or NULL with the UnicodeDecodeError of bytes.decode(). */
PyObject *decode_utf8(const char *payload, Py_ssize_t length);

/* _payload.c */
extern PyTypeObject PayloadType;
