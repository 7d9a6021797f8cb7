/* Inflating whole small messages whose stream begins anew (RFC 7692 section 7.1.1.1: no context takeover).
 *
 * Python's zlib makes and frees a stream and its window for each of them. Here, one stream is reset instead and
 * serves all connections of the interpreter: inflateReset2() forgets the window, so no message sees the data of
 * another. The GIL protects it, which is why this part is not built for free-threaded Pythons.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <zlib.h>

#include "../system/_module.h"

/* The largest message that is inflated here, in bytes. Python's zlib releases the GIL for larger ones. */
#define ROOM 65536

typedef struct {
    z_stream stream;
    int is_ready;              /* whether inflateInit2() has been called */
    unsigned char room[ROOM];  /* where a message goes before its bytes object is made */
} State;

/* Begin a new stream. Return 0 if zlib cannot. */
static int
begin(State *state, int window_bits)
{
    if (state->is_ready) {
        return inflateReset2(&state->stream, -window_bits) == Z_OK;
    }
    state->is_ready = inflateInit2(&state->stream, -window_bits) == Z_OK;
    return state->is_ready;
}

/* Inflate the next part of the message. Return 0 if it is anything but the middle of a valid stream that
 * fits. */
static int
inflate_part(z_stream *stream, const unsigned char *part, size_t length)
{
    stream->next_in = (z_const Bytef *)part;
    stream->avail_in = (uInt)length;
    /* A buffer that is full could hide more of the message. */
    return inflate(stream, Z_SYNC_FLUSH) == Z_OK && stream->avail_in == 0 && stream->avail_out > 0;
}

static const char inflate_message_doc[] =
"inflate_message(data, limit, window_bits)\n--\n\n"
"Return the content of a compressed message, or None if Python must look at it.\n\n"
"That is so if the message is empty or large, has more than `limit` bytes, or is not an ordinary, valid\n"
"stream.";

static PyObject *
inflate_message(PyObject *module, PyObject *args)
{
    static const unsigned char tail[] = {0x00, 0x00, 0xff, 0xff}; /* RFC 7692 section 7.2.2 */
    State *state = (State *)PyModule_GetState(module);
    Py_buffer data;
    Py_ssize_t limit;
    int window_bits;
    if (!PyArg_ParseTuple(args, "y*ni:inflate_message", &data, &limit, &window_bits)) {
        return NULL;
    }
    int is_done = 0;
    if (data.len > 0 && data.len <= ROOM && begin(state, window_bits)) {
        state->stream.next_out = state->room;
        state->stream.avail_out = ROOM;
        is_done = inflate_part(&state->stream, data.buf, (size_t)data.len)
            && inflate_part(&state->stream, tail, sizeof(tail));
    }
    PyBuffer_Release(&data);
    Py_ssize_t length = ROOM - (Py_ssize_t)state->stream.avail_out;
    if (!is_done || length > limit) {
        Py_RETURN_NONE;
    }
    return PyBytes_FromStringAndSize((const char *)state->room, length);
}

static PyMethodDef methods[] = {
    {"inflate_message", inflate_message, METH_VARARGS, inflate_message_doc},
    {NULL, NULL, 0, NULL},
};

static void
module_free(void *module)
{
    State *state = (State *)PyModule_GetState((PyObject *)module);
    if (state != NULL && state->is_ready) {
        inflateEnd(&state->stream);
    }
}

DEFINE_MODULE("lochws.protocol", _inflating, "Inflating whole small messages.", /* no exec */,
              .m_free = module_free)
