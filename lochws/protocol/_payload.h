/* The type that _compiled.c offers as Payload. */

#include <Python.h>

extern PyTypeObject PayloadType;
