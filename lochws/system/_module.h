/* The definition of a compiled module. */

#include <Python.h>

/* The function module_exec as a slot of the definition. */
#define MODULE_EXEC {Py_mod_exec, (void *)module_exec},

#ifdef Py_mod_multiple_interpreters
/* Nothing is shared between two modules: no static variable changes, and no object outlives its interpreter. */
#define MODULE_INTERPRETERS {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define MODULE_INTERPRETERS
#endif

#ifdef Py_GIL_DISABLED /* where setup.py builds only modules that need no GIL */
#define MODULE_GIL {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#else
#define MODULE_GIL
#endif

/* Define a module with the functions `methods` and a State. `exec` is MODULE_EXEC or nothing; the last arguments are
 * other fields, such as .m_free. */
#define DEFINE_MODULE(package, name, doc, exec, ...)                                         \
    static PyModuleDef_Slot module_slots[] = {exec MODULE_INTERPRETERS MODULE_GIL {0, NULL}}; \
    static struct PyModuleDef definition = {                                                 \
        PyModuleDef_HEAD_INIT,                                                               \
        .m_name = package "." #name,                                                         \
        .m_doc = doc,                                                                        \
        .m_size = sizeof(State),                                                             \
        .m_methods = methods,                                                                \
        .m_slots = module_slots,                                                             \
        __VA_ARGS__                                                                          \
    };                                                                                       \
    PyMODINIT_FUNC PyInit_##name(void)                                                       \
    {                                                                                        \
        return PyModuleDef_Init(&definition);                                                \
    }
