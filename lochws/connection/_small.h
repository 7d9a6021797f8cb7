/* Declarations shared by the C files of the module: its state, and what each file provides. */

#include <Python.h>

#include "../system/_slots.h"

/* The slots, by the class that has them. */
enum {
    ASKED, CORKS, DROP_OFF_LIMIT, DROPPED_OFF, DUE, FAILURE, FOLLOWS, GATHER_BYTES, GATHERING, IS_BLOCKED, IS_SHUT,
    IS_UNSURE, KEYS, LAST_WRITE, LIMIT, LOCK, OUTGOING, PLAIN_BYTES, SOCKET, TAPS, WRITER, QUEUE_SLOTS
};
enum {
    BYTES_SENT, COMPLETED, END, EXTRA, FULL_AT, ITEMS, MESSAGES_SENT, NEXT_OFFSET, PLANS, PREFIX, RAW, REST, SIZE, START,
    OUTGOING_SLOTS
};
enum { BLOCK, POSITION, KEYS_SLOTS };
enum { HEARD, INBOX, IS_PLAIN, IS_QUICK, KEEPALIVE, PINGS_SENT, PUMP, RECEIVED_QUEUE, RECEIVE_INTO, HALF_SLOTS };
enum { BATCHES, LAST, INBOX_SLOTS };
enum { WAITING_SINCE, KEEPALIVE_SLOTS };

/* The state of one import of the module. Every interpreter and every copy of lochws has its own. */
typedef struct {
    PyTypeObject *queue_type, *outgoing_type, *keys_type; /* NULL until configure() */
    Py_ssize_t queue[QUEUE_SLOTS], outgoing[OUTGOING_SLOTS], keys[KEYS_SLOTS];
    Py_ssize_t kept_items;
    PyObject *monotonic, *fileno;
    PyObject *locked, *after; /* names of methods */
    /* Used by ready(). */
    PyTypeObject *half_type, *inbox_type, *keepalive_type; /* NULL until configure_ready() */
    Py_ssize_t half[HALF_SLOTS], inbox[INBOX_SLOTS], keepalive[KEEPALIVE_SLOTS];
    PyObject *receive, *on_ready, *received_all, *failed; /* names of methods */
} State;

#define QUEUE(slot) (*slot_at(queue, state->queue[slot]))

/* _ready.c */
extern const char configure_ready_doc[], ready_doc[];
PyObject *configure_ready(PyObject *module, PyObject *args);
PyObject *call_ready(PyObject *module, PyObject *const *args, Py_ssize_t count);
