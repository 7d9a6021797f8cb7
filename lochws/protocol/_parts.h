/* Declarations shared by the C files: the state of the module, and the functions that each file provides. */

#include <Python.h>

#ifndef Py_BEGIN_CRITICAL_SECTION /* before Python 3.13 there is always a GIL */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* The state of one import of the module. Every interpreter and every copy of lochws has its own, and no C
 * variable outside it ever changes. */
typedef struct {
    /* The event classes, and where in their instances the slots are. All NULL and 0 until configure(). */
    PyTypeObject *text_type, *encoded_type, *binary_type;
    Py_ssize_t text_time, text_text, encoded_time, encoded_data, binary_time, binary_data;
    PyTypeObject *payload_type;
} State;

static inline State *
state_of(PyObject *module)
{
    return (State *)PyModule_GetState(module);
}

/* _scanning.c */
extern const char scanning_configure_doc[], scanning_scan_doc[];
PyObject *scanning_configure(PyObject *module, PyObject *args);
PyObject *scanning_scan(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* _utf8.c: return the str, or NULL with the UnicodeDecodeError of bytes.decode(). */
extern const char utf8_decode_doc[], utf8_is_valid_doc[];
PyObject *decode_utf8(const char *payload, Py_ssize_t length);
int is_utf8(const unsigned char *at, Py_ssize_t length);
PyObject *utf8_is_valid(PyObject *module, PyObject *data);
PyObject *utf8_decode_payload(PyObject *module, PyObject *buffer);

/* _payload.c */
extern PyType_Spec payload_spec;
