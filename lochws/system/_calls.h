/* Declarations shared by the C files of the module: its state, and what each file provides. */

#include <Python.h>

#include "_exceptions.h"

/* The slots that dispatch() uses, by the class that has them. */
enum { NEW, PENDING, SETUP_NOW, REGISTRY_SLOTS };
enum { BATCH, DEBUG_LINES, EVERY, MAIL, TABLE, SETUP_SLOTS };

/* The state of one import of the module. No C variable outside it ever changes. */
typedef struct {
    PyObject *fileno, *on_ready, *turn, *act, *next; /* names of attributes */
    PyTypeObject *turn_type;
    /* Of dispatch(). */
    PyTypeObject *registry_type, *setup_type; /* NULL until configure_dispatch() */
    Py_ssize_t registry[REGISTRY_SLOTS], setup[SETUP_SLOTS];
    PyObject *logger, *root, *caught;
    PyObject *dispatch_all, *fill, *level, *returned; /* names of attributes */
} State;

/* _dispatch.c */
extern const char configure_dispatch_doc[], dispatch_doc[];
PyObject *configure_dispatch(PyObject *module, PyObject *args);
PyObject *call_dispatch(PyObject *module, PyObject *const *args, Py_ssize_t count);

#ifdef __linux__
/* _turn.c */
extern PyType_Spec turn_spec;
#endif
