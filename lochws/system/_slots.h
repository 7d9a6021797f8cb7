/* Access to the slots of a Python class from C: where they are, and what is in them. */

#include <Python.h>
#include <descrobject.h>
#include <structmember.h>

/* Store where the slots of a class are. Return 0 with an exception if one of them is not a slot. */
static inline int
find_slots(PyTypeObject *type, const char *const *names, Py_ssize_t *offsets, int count)
{
    for (int i = 0; i < count; i++) {
        PyObject *slot = PyObject_GetAttrString((PyObject *)type, names[i]);
        if (slot == NULL) {
            return 0;
        }
        int is_slot = Py_IS_TYPE(slot, &PyMemberDescr_Type) && PyType_IsSubtype(type, PyDescr_TYPE(slot)) &&
                      ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX;
        if (is_slot) {
            offsets[i] = ((PyMemberDescrObject *)slot)->d_member->offset;
        }
        Py_DECREF(slot);
        if (!is_slot) {
            PyErr_Format(PyExc_TypeError, "%s.%s is not a slot", type->tp_name, names[i]);
            return 0;
        }
    }
    return 1;
}

static inline PyObject **
slot_at(PyObject *object, Py_ssize_t offset)
{
    return (PyObject **)((char *)object + offset);
}

/* Return whether a slot has an object of that very class. The collector empties slots one by one. */
static inline int
is_a(PyObject *object, PyTypeObject *type)
{
    return object != NULL && Py_IS_TYPE(object, type);
}

static inline int
is_empty(PyObject *sequence)
{
    return (is_a(sequence, &PyList_Type) || is_a(sequence, &PyTuple_Type)) && Py_SIZE(sequence) == 0;
}
