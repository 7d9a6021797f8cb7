/* The compiled twin of Registry.dispatch_all: calls the handlers of each event in turn. Apps with handlers of batches
 * or mailboxes, or at level DEBUG, are left to Python. For one thread at a time, the reader.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_calls.h"
#include "_slots.h"

static const char *const registry_slots[REGISTRY_SLOTS] = {"_new", "_pending", "_setup"};
static const char *const setup_slots[SETUP_SLOTS] = {"batch", "debug", "every", "mail", "table"};

#define DEBUG 10 /* logging.DEBUG */
#define REGISTRY(slot) (*slot_at(registry, state->registry[slot]))
#define SETUP(slot) (*slot_at(setup, state->setup[slot]))

const char configure_dispatch_doc[] = PyDoc_STR(
"configure_dispatch(Registry, Setup, logger, root, caught)\n--\n\n"
"Set the classes whose slots dispatch() uses, the loggers whose level it looks at, and the function that it calls\n"
"when a handler has raised.");

PyObject *
configure_dispatch(PyObject *module, PyObject *args)
{
    State *state = PyModule_GetState(module);
    PyTypeObject *registry, *setup;
    PyObject *logger, *root, *caught;
    if (!PyArg_ParseTuple(args, "O!O!OOO:configure_dispatch", &PyType_Type, &registry, &PyType_Type, &setup, &logger,
                          &root, &caught) ||
        !find_slots(registry, registry_slots, state->registry, REGISTRY_SLOTS) ||
        !find_slots(setup, setup_slots, state->setup, SETUP_SLOTS)) {
        return NULL;
    }
    Py_XSETREF(state->registry_type, (PyTypeObject *)Py_NewRef(registry));
    Py_XSETREF(state->setup_type, (PyTypeObject *)Py_NewRef(setup));
    Py_XSETREF(state->logger, Py_NewRef(logger));
    Py_XSETREF(state->root, Py_NewRef(root));
    Py_XSETREF(state->caught, Py_NewRef(caught));
    Py_RETURN_NONE;
}

/* Return a logger's own level, or -1 with an exception. */
static long
level_of(const State *state, PyObject *logger)
{
    PyObject *level = PyObject_GetAttr(logger, state->level);
    long number = level == NULL ? -1 : PyLong_AsLong(level);
    Py_XDECREF(level);
    return number;
}

/* Return whether only the handlers of each event have to be called. Sets no exception. */
static int
is_plain(const State *state, PyObject *setup)
{
    if (!Py_IS_TYPE(setup, state->setup_type) || !is_empty(SETUP(BATCH)) || !is_empty(SETUP(MAIL))) {
        return 0;
    }
    if (SETUP(DEBUG_LINES) == Py_None) {
        return 1;
    }
    long level = level_of(state, state->logger);
    level = level ? level : level_of(state, state->root);
    PyErr_Clear();
    return level > DEBUG;
}

/* Return the handlers of a kind of events, or NULL with an exception. */
static PyObject *
handlers_of(const State *state, PyObject *setup, PyObject *kind)
{
    PyObject *found = NULL;
    if (is_a(SETUP(TABLE), &PyDict_Type)) { /* an app without handlers has an empty mapping of another type */
        found = PyDict_GetItemWithError(SETUP(TABLE), kind);
    }
    if (found == NULL && !PyErr_Occurred()) {
        found = SETUP(EVERY);
    }
    if (!is_a(found, &PyTuple_Type)) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "the handlers are not a tuple");
    }
    return Py_NewRef(found);
}

/* Call each of the handlers, and report their exceptions. Return 0 with any other exception. */
static int
call_handlers(const State *state, PyObject *registry, PyObject *handlers, PyObject *event)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(handlers); index++) {
        PyObject *handler = PyTuple_GET_ITEM(handlers, index), *result = PyObject_CallOneArg(handler, event);
        if (result != NULL && result != Py_None) {
            Py_SETREF(result, PyObject_CallMethodObjArgs(registry, state->returned, handler, result, NULL));
        }
        if (result == NULL) {
            PyObject *error = take_exception();
            result = PyObject_CallFunctionObjArgs(state->caught, registry, handler, event, error, NULL);
            Py_DECREF(error);
        }
        if (result == NULL) {
            return 0;
        }
        Py_DECREF(result);
    }
    return 1;
}

const char dispatch_doc[] = PyDoc_STR(
"dispatch(registry, received)\n--\n\n"
"Do what `Registry.dispatch_all` does.");

PyObject *
call_dispatch(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const State *state = PyModule_GetState(module);
    if (count != 2 || state->registry_type == NULL) {
        PyErr_SetString(PyExc_TypeError, "dispatch(registry: Registry, received)");
        return NULL;
    }
    PyObject *registry = args[0], *received = args[1], *setup = NULL;
    if (PyObject_TypeCheck(registry, state->registry_type)) { /* else the user has reloaded the module */
        setup = REGISTRY(SETUP_NOW);
    }
    if (setup == NULL || !is_plain(state, setup)) {
        return PyObject_CallMethodOneArg(registry, state->dispatch_all, received);
    }
    PyObject *pending = PyObject_GetIter(received), *kind = NULL, *handlers = NULL, *event;
    if (pending == NULL) {
        return NULL;
    }
    Py_XSETREF(REGISTRY(PENDING), Py_NewRef(pending));
    int is_well = 1;
    setup = NULL;
    while (is_well && (event = PyIter_Next(pending)) != NULL) {
        if ((PyObject *)Py_TYPE(event) != kind || REGISTRY(SETUP_NOW) != setup) {
            Py_XSETREF(setup, Py_NewRef(REGISTRY(SETUP_NOW)));
            Py_XSETREF(kind, Py_NewRef(Py_TYPE(event)));
            Py_XSETREF(handlers, handlers_of(state, setup, kind));
        }
        is_well = handlers != NULL && call_handlers(state, registry, handlers, event);
        Py_DECREF(event);
    }
    Py_DECREF(pending);
    Py_XDECREF(setup);
    Py_XDECREF(kind);
    Py_XDECREF(handlers);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (PyObject_IsTrue(REGISTRY(NEW)) != 0) { /* a handler has added a mailbox */
        PyObject *before = PyTuple_New(0);
        PyObject *result = before == NULL ? NULL : PyObject_CallMethodObjArgs(registry, state->fill, received, before, NULL);
        Py_XDECREF(before);
        return result;
    }
    Py_RETURN_NONE;
}
