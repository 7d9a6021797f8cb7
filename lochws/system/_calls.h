/* Declarations shared by the C files of the module: its state, and what each file provides. */

#include <Python.h>

/* The slots that dispatch() uses, by the class that has them. */
enum { NEW, PENDING, SETUP_NOW, REGISTRY_SLOTS };
enum { BATCH, DEBUG_LINES, EVERY, MAIL, TABLE, SETUP_SLOTS };

/* The state of one import of the module. No C variable outside it ever changes. */
typedef struct {
    PyObject *fileno, *on_ready; /* names of methods */
    PyTypeObject *turn_type;
    /* Of dispatch(). */
    PyTypeObject *registry_type, *setup_type; /* NULL until configure_dispatch() */
    Py_ssize_t registry[REGISTRY_SLOTS], setup[SETUP_SLOTS];
    PyObject *logger, *root, *caught;
    PyObject *dispatch_all, *fill, *level, *returned; /* names of attributes */
} State;

/* Return the current exception, and clear it. */
static inline PyObject *
take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL) {
        PyException_SetTraceback(error, trace);
    }
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
#endif
}

/* _dispatch.c */
extern const char configure_dispatch_doc[], dispatch_doc[];
PyObject *configure_dispatch(PyObject *module, PyObject *args);
PyObject *call_dispatch(PyObject *module, PyObject *const *args, Py_ssize_t count);

#ifdef __linux__
/* _turn.c */
extern PyType_Spec turn_spec;
#endif
