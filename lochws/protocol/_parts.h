/* Declarations shared by the C files: the state of the module, and the functions that each file provides. */

#include <Python.h>
#include <stdint.h>

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
    PyTypeObject *payload_type, *pump_type;
    /* Names of attributes: `message`, `stream` and `go_on` of an Inflater, the others of its stream. */
    PyObject *message, *stream, *go_on, *decompress, *eof;
} State;

#define FINAL_TEXT 0x81
#define FINAL_BINARY 0x82
#define DEFLATED 0x40

static inline State *
state_of(PyObject *module)
{
    return (State *)PyModule_GetState(module);
}

/* _scanning.c */
extern const char scanning_configure_doc[], scanning_scan_doc[];
PyObject *scanning_configure(PyObject *module, PyObject *args);
PyObject *scanning_scan(PyObject *module, PyObject *const *args, Py_ssize_t count);
int read_head(const unsigned char *at, const unsigned char *end, int may_be_deflated, Py_ssize_t *head,
              uint64_t *length);
/* Return whether a compressed payload may be larger than the limit: deflate.may_exceed. */
int may_exceed(uint64_t length, Py_ssize_t limit);

/* One scan: the time of its events, once it is known, and the memory of their contents. */
typedef struct {
    PyObject *received;
    Py_ssize_t memory;
} Scan;

/* Append the events of whole messages. Return where the first frame begins that needs more care, or NULL with an
 * exception. */
const unsigned char *scan_frames(
    const State *state, Scan *scan, const unsigned char *at, const unsigned char *end, Py_ssize_t limit,
    PyObject *events, PyObject *inflater, int as_bytes);
/* Append the event of a binary message. Steals `content`. Return -1 with an exception. */
int append_binary(const State *state, Scan *scan, PyObject *events, PyObject *content);

/* _utf8.c: return the str, or NULL with the UnicodeDecodeError of bytes.decode(). */
extern const char utf8_decode_doc[], utf8_is_valid_doc[];
PyObject *decode_utf8(const char *payload, Py_ssize_t length);
int is_utf8(const unsigned char *at, Py_ssize_t length, int is_whole);
PyObject *utf8_is_valid(PyObject *module, PyObject *data);
PyObject *utf8_decode_payload(PyObject *module, PyObject *buffer);

/* _payload.c */
typedef struct {
    PyObject_HEAD
    PyObject *bytes;     /* the content so far, and room for more; NULL after getvalue() */
    Py_ssize_t length;   /* of the whole payload */
    Py_ssize_t filled;   /* the number of bytes received */
    Py_ssize_t room;     /* the length of the next view, which begins at `filled` */
    Py_ssize_t views;    /* views that are not released yet */
} Payload;

extern PyType_Spec payload_spec;
Payload *payload_make(PyTypeObject *type, Py_ssize_t length, Py_ssize_t reserved);
Py_ssize_t payload_make_room(Payload *self, Py_ssize_t most); /* -1 with an exception */
int payload_add(Payload *self, const void *part, Py_ssize_t length); /* -1 with an exception */
PyObject *payload_getvalue(Payload *self, PyObject *nothing);
void payload_discard(Payload *self);

/* _pump.c */
extern PyType_Spec pump_spec;
