/* Passes of the DPU: bytes copied, or replaced by what a table says, pixel by pixel. */
#ifndef ROCKET_PASSES_H
#define ROCKET_PASSES_H

#include "cube.h"
#include "windows.h"

typedef struct {
    char *data; /* surface 0, row 0, column 0 */
    Py_ssize_t shape[3], step[3]; /* surfaces, rows, columns; bytes from one to the next */
} Grid;

typedef struct {
    Grid in, operand, out;
    const uint8_t *results; /* [channels or 1][256 or, with an operand, 65536]; NULL: copy */
    Py_ssize_t channel;     /* from the results of a channel to those of the next; may be 0 */
} Remap;

static int
get_grid(PyObject *object, Py_buffer *view, int flags, Grid *grid, const char *name)
{
    if (get(object, view, flags | PyBUF_STRIDES, "b", 4, name) < 0)
        return -1;
    if (view->shape[3] != ATOM || view->strides[3] != 1) {
        PyErr_Format(PyExc_ValueError, "%s: a pixel must be %d bytes next to one another", name,
                     ATOM);
        PyBuffer_Release(view);
        return -1;
    }
    grid->data = view->buf;
    for (int i = 0; i < 3; i++) {
        grid->shape[i] = view->shape[i];
        grid->step[i] = view->strides[i];
    }
    return 0;
}

static int
same_shape(const Grid *a, const Grid *b)
{
    return memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

INLINE char *
grid_row(const Grid *g, Py_ssize_t u, Py_ssize_t y)
{
    return g->data + u * g->step[0] + y * g->step[1];
}

/* Table indices count from the byte -128 on, whose bits are 0x80. */
INLINE void
remap_row(const Remap *r, const uint8_t *results, const char *in, const char *operand, char *out)
{
    const Py_ssize_t width = r->out.shape[2], channel = r->channel;
    const Py_ssize_t in_step = r->in.step[2], step = r->operand.step[2], out_step = r->out.step[2];
    for (Py_ssize_t x = 0; x < width; x++, in += in_step, operand += step, out += out_step) {
        uint8_t pixel[ATOM];
        for (int k = 0; k < ATOM; k++) {
            size_t at = (uint8_t)in[k] ^ 0x80u;
            if (r->operand.data)
                at |= ((uint8_t)operand[k] ^ 0x80u) << 8;
            pixel[k] = results[k * channel + (Py_ssize_t)at];
        }
        memcpy(out, pixel, ATOM);
    }
}

INLINE void
copy_row(const Remap *r, const char *in, char *out)
{
    const Py_ssize_t width = r->out.shape[2];
    if (r->in.step[2] == ATOM && r->out.step[2] == ATOM) {
        memmove(out, in, (size_t)(width * ATOM));
        return;
    }
    for (Py_ssize_t x = 0; x < width; x++, in += r->in.step[2], out += r->out.step[2])
        memmove(out, in, ATOM);
}

FAST static void
run_remap(const Remap *r)
{
    for (Py_ssize_t u = 0; u < r->out.shape[0]; u++)
        for (Py_ssize_t y = 0; y < r->out.shape[1]; y++) {
            const char *in = grid_row(&r->in, u, y);
            if (!r->results)
                copy_row(r, in, grid_row(&r->out, u, y));
            else
                remap_row(r, r->results + u * ATOM * r->channel, in,
                          r->operand.data ? grid_row(&r->operand, u, y) : in,
                          grid_row(&r->out, u, y));
        }
}

static int
check_remap(const Remap *r, const Py_buffer *results)
{
    const Py_ssize_t channels = r->out.shape[0] * ATOM;
    const Py_ssize_t entries = r->operand.data ? 1 << 16 : 1 << 8;
    if (same_shape(&r->in, &r->out) && (!r->operand.data || same_shape(&r->operand, &r->out)) &&
        (!r->operand.data || r->results) &&
        (!r->results || (results->shape[1] == entries &&
                         (results->shape[0] == 1 || results->shape[0] == channels))))
        return 0;
    PyErr_SetString(PyExc_ValueError, "remap: shapes of features, operand, results, out differ");
    return -1;
}

static PyObject *
remap(PyObject *self, PyObject *args)
{
    PyObject *in, *operand, *results, *out, *result = NULL;
    Py_buffer views[4] = {{0}};
    Remap r = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOO", &in, &operand, &results, &out))
        return NULL;
    if (get_grid(in, &views[0], 0, &r.in, "features") == 0 &&
        (operand == Py_None || get_grid(operand, &views[1], 0, &r.operand, "operand") == 0) &&
        (results == Py_None || get(results, &views[2], PyBUF_C_CONTIGUOUS, "b", 2, "results") == 0) &&
        get_grid(out, &views[3], PyBUF_WRITABLE, &r.out, "out") == 0) {
        r.results = views[2].buf;
        if (check_remap(&r, &views[2]) == 0) {
            r.channel = r.results && views[2].shape[0] > 1 ? views[2].shape[1] : 0;
            Py_BEGIN_ALLOW_THREADS
            run_remap(&r);
            Py_END_ALLOW_THREADS
            result = Py_NewRef(Py_None);
        }
    }
    for (int i = 0; i < 4; i++)
        PyBuffer_Release(&views[i]);
    return result;
}

#endif
