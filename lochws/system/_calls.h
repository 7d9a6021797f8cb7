/* Declarations shared by the C files of the module: its state, and what each file provides. */

#include <Python.h>

/* The state of one import of the module. No C variable outside it ever changes. */
typedef struct {
    PyObject *fileno, *on_ready; /* names of methods */
    PyTypeObject *turn_type;
} State;

#ifdef __linux__
/* _turn.c */
extern PyType_Spec turn_spec;
#endif
