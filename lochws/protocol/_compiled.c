/* The compiled twins of the hot path: scanning received bytes (_scanning.c), decoding text (_utf8.c),
 * receiving large payloads (_payload.c), receiving and scanning at once (_pump.c) and, in this file, building
 * frames.
 *
 * Each function behaves exactly like its Python twin (in scanning.py, payload.py, pump.py and frames.py), and
 * passes the same tests. Protocol violations are left to Python, which raises the errors. The GIL is held
 * throughout, where there is one; nothing blocks. Any thread may append to the list that pack() and measure()
 * read: without a GIL they lock it, as list.append() does.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "../system/_module.h"
#include "_frames.h"
#include "_parts.h"

PyDoc_STRVAR(build_frame_doc,
"build_frame(first, payload, key)\n--\n\n"
"The compiled twin of build_frame_python.");

static PyObject *
build_frame(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "build_frame(first, payload, key)");
        return NULL;
    }
    long first = PyLong_AsLong(args[0]);
    if (first == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (!PyBytes_CheckExact(args[2]) || PyBytes_GET_SIZE(args[2]) != 4) {
        PyErr_SetString(PyExc_TypeError, "build_frame: the key must be 4 bytes");
        return NULL;
    }
    const unsigned char *key = (const unsigned char *)PyBytes_AS_STRING(args[2]);
    Py_buffer view;
    if (PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *frame = NULL;
    if (view.len > PY_SSIZE_T_MAX - 14) {
        PyErr_NoMemory();
    }
    else {
        frame = PyBytes_FromStringAndSize(NULL, masked_head(view.len) + view.len);
    }
    if (frame != NULL) {
        write_frame((unsigned char *)PyBytes_AS_STRING(frame), (int)first, view.buf, view.len, key);
    }
    PyBuffer_Release(&view);
    return frame;
}

/* Look at an item of pack(): store its first byte (0 for a finished frame), its content and its size.
 * Return 0 with an exception if it is not a valid item. */
static int
look_at_item(PyObject *item, int *first, const unsigned char **content, Py_ssize_t *size)
{
    if (PyTuple_CheckExact(item) && PyTuple_GET_SIZE(item) == 2 && PyBytes_Check(PyTuple_GET_ITEM(item, 0))) {
        *first = 0;
        *content = (const unsigned char *)PyBytes_AS_STRING(PyTuple_GET_ITEM(item, 0));
        *size = PyBytes_GET_SIZE(PyTuple_GET_ITEM(item, 0));
        return 1;
    }
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_CheckExact(item) && PyUnicode_READY(item) < 0) {
        return 0;
    }
#endif
    if (look_at_plain(item, first, content, size)) {
        return 1;
    }
    if (PyUnicode_CheckExact(item)) {
        PyErr_SetString(PyExc_ValueError, "pack: a text that is not ASCII");
    }
    else {
        PyErr_Format(PyExc_TypeError, "pack: an item of type %s", Py_TYPE(item)->tp_name);
    }
    return 0;
}

/* Return what the items of a list take when they are sent, -1 for a lone tuple of another size, or NULL. */
static PyObject *
measure_list(PyObject *items, Py_ssize_t index)
{
    Py_ssize_t total = 0, size;
    const unsigned char *content;
    int first;
    for (; index < PyList_GET_SIZE(items); index++) {
        PyObject *item = PyList_GET_ITEM(items, index);
        if (PyTuple_CheckExact(item) && PyTuple_GET_SIZE(item) != 2) {
            return PyLong_FromLong(-1);
        }
        if (!look_at_item(item, &first, &content, &size)) {
            return NULL;
        }
        total += first ? masked_head(size) + size : size;
    }
    return PyLong_FromSsize_t(total);
}

PyDoc_STRVAR(measure_doc,
"measure(items, start)\n--\n\n"
"The compiled twin of measure_python.");

static PyObject *
measure_items(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "measure(items: list, start)");
        return NULL;
    }
    Py_ssize_t index = PyLong_AsSsize_t(args[1]);
    if (index < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "measure: no item there");
        }
        return NULL;
    }
    PyObject *total;
    Py_BEGIN_CRITICAL_SECTION(args[0]);
    total = measure_list(args[0], index);
    Py_END_CRITICAL_SECTION();
    return total;
}

/* Pack items from `start` on: at least one, and as many as fit into `limit` bytes and have a key, from
 * `position` on. Store the index after the last one. */
static PyObject *
pack_list(PyObject *items, Py_ssize_t start, Py_ssize_t limit, PyObject *keys, Py_ssize_t position,
          Py_ssize_t *after)
{
    Py_ssize_t left = PyBytes_GET_SIZE(keys) / 4 - position / 4;
    if (start < 0 || position < 0 || position % 4 || start >= PyList_GET_SIZE(items) || left < 1) {
        PyErr_SetString(PyExc_ValueError, "pack: no item there, or no key");
        return NULL;
    }
    Py_ssize_t most = PyList_GET_SIZE(items) - start < left ? PyList_GET_SIZE(items) : start + left;
    Py_ssize_t end = start, total = 0, size;
    const unsigned char *content;
    int first;
    for (; end < most; end++) {
        if (!look_at_item(PyList_GET_ITEM(items, end), &first, &content, &size)) {
            return NULL;
        }
        Py_ssize_t whole = first ? masked_head(size) + size : size;
        if (end > start && whole > limit - total) {
            break;
        }
        total += whole;
    }
    *after = end;
    if (end == start + 1 && PyTuple_CheckExact(PyList_GET_ITEM(items, start))) {
        PyObject *frame = PyTuple_GET_ITEM(PyList_GET_ITEM(items, start), 0);
        Py_INCREF(frame);
        return frame;
    }
    PyObject *packed = PyBytes_FromStringAndSize(NULL, total);
    if (packed == NULL) {
        return NULL;
    }
    unsigned char *target = (unsigned char *)PyBytes_AS_STRING(packed);
    const unsigned char *key = (const unsigned char *)PyBytes_AS_STRING(keys) + position;
    for (Py_ssize_t index = start; index < end; index++, key += 4) {
        if (!look_at_item(PyList_GET_ITEM(items, index), &first, &content, &size)) {
            Py_DECREF(packed);
            return NULL;
        }
        if (first) {
            target = write_frame(target, first, content, size, key);
        }
        else {
            memcpy(target, content, (size_t)size);
            target += size;
        }
    }
    return packed;
}

PyDoc_STRVAR(pack_doc,
"pack(items, start, limit, keys, position)\n--\n\n"
"The compiled twin of pack_python.");

static PyObject *
pack(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !PyList_CheckExact(args[0]) || !PyBytes_CheckExact(args[3])) {
        PyErr_SetString(PyExc_TypeError, "pack(items: list, start, limit, keys: bytes, position)");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    Py_ssize_t limit = PyLong_AsSsize_t(args[2]);
    Py_ssize_t position = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    PyObject *packed;
    Py_ssize_t end = 0;
    Py_BEGIN_CRITICAL_SECTION(args[0]);
    packed = pack_list(args[0], start, limit, args[3], position, &end);
    Py_END_CRITICAL_SECTION();
    return packed == NULL ? NULL : Py_BuildValue("Nn", packed, end);
}

static PyMethodDef methods[] = {
    {"configure", scanning_configure, METH_VARARGS, scanning_configure_doc},
    {"scan", (PyCFunction)(void (*)(void))scanning_scan, METH_FASTCALL, scanning_scan_doc},
    {"build_frame", (PyCFunction)(void (*)(void))build_frame, METH_FASTCALL, build_frame_doc},
    {"measure", (PyCFunction)(void (*)(void))measure_items, METH_FASTCALL, measure_doc},
    {"pack", (PyCFunction)(void (*)(void))pack, METH_FASTCALL, pack_doc},
    {"decode_payload", utf8_decode_payload, METH_O, utf8_decode_doc},
    {"is_utf8", utf8_is_valid, METH_O, utf8_is_valid_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    State *state = state_of(module);
    if ((state->message = PyUnicode_InternFromString("message")) == NULL ||
        (state->stream = PyUnicode_InternFromString("stream")) == NULL ||
        (state->go_on = PyUnicode_InternFromString("go_on")) == NULL ||
        (state->decompress = PyUnicode_InternFromString("decompress")) == NULL ||
        (state->eof = PyUnicode_InternFromString("eof")) == NULL) {
        return -1;
    }
    state->payload_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &payload_spec, NULL);
    if (state->payload_type == NULL || PyModule_AddType(module, state->payload_type) < 0) {
        return -1;
    }
    state->pump_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pump_spec, NULL);
    return state->pump_type == NULL ? -1 : PyModule_AddType(module, state->pump_type);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = state_of(module);
    Py_VISIT(state->text_type);
    Py_VISIT(state->encoded_type);
    Py_VISIT(state->binary_type);
    Py_VISIT(state->payload_type);
    Py_VISIT(state->pump_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    State *state = state_of(module);
    Py_CLEAR(state->text_type);
    Py_CLEAR(state->encoded_type);
    Py_CLEAR(state->binary_type);
    Py_CLEAR(state->payload_type);
    Py_CLEAR(state->pump_type);
    Py_CLEAR(state->message);
    Py_CLEAR(state->stream);
    Py_CLEAR(state->go_on);
    Py_CLEAR(state->decompress);
    Py_CLEAR(state->eof);
    return 0;
}

static void
module_free(void *module)
{
    module_clear((PyObject *)module);
}

DEFINE_MODULE("lochws.protocol", _compiled, "The compiled twins of the hot path.", MODULE_EXEC,
              .m_traverse = module_traverse, .m_clear = module_clear, .m_free = module_free)
