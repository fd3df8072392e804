/* What Python says about the DPU: (bias, factors, operand, table, stages, channels, rich), `out`. */
#ifndef ROCKET_POST_ARGUMENTS_H
#define ROCKET_POST_ARGUMENTS_H

#include "post.h"

static void
release_post(Post *post)
{
    for (size_t i = 0; i < sizeof post->views / sizeof *post->views; i++)
        PyBuffer_Release(&post->views[i]);
}

static int
adjacent(const Cube *cube)
{
    return cube->rows <= 1 || cube->row == cube->cols * ATOM;
}

static int
check_post(const Post *post, const Window *w, Py_ssize_t lanes)
{
    const Cube *out = &post->out, *operand = &post->operand;
    const Py_ssize_t least = out->surfaces * ATOM;
    if (out->surfaces < 1 || least > lanes || post->channels > least ||
        post->channels <= least - ATOM || post->views[0].shape[0] != least ||
        (post->factors && post->views[1].shape[0] != least) || w->width != out->cols ||
        w->first + w->rows > out->rows || !adjacent(out))
        return -1;
    if (post->table &&
        (operand->surfaces != out->surfaces || operand->rows != out->rows ||
         operand->cols != out->cols || !adjacent(operand) || post->views[3].shape[0] != 256))
        return -1;
    return 0;
}

/* Reads (numbers, entries, limits and slopes, floor, operation). */
static int
get_rich(PyObject *tuple, Post *post)
{
    PyObject *numbers, *entries;
    Rich *r = &post->rich_stages;
    if (!PyArg_ParseTuple(tuple, "OO(dddddd)ii", &numbers, &entries, &r->bs_low, &r->bs_high,
                          &r->bn_low, &r->bn_high, &r->below, &r->above, &r->floor,
                          &r->operation) ||
        get(numbers, &post->views[5], PyBUF_C_CONTIGUOUS, "d", 2, "numbers") < 0 ||
        (entries != Py_None &&
         get(entries, &post->views[6], PyBUF_C_CONTIGUOUS, "h", 1, "entries") < 0))
        return -1;
    r->numbers = post->views[5].buf;
    r->entries = post->views[6].buf;
    r->lanes = post->views[5].shape[1];
    post->rich = r;
    if (post->views[5].shape[0] == 5 && r->lanes == post->out.surfaces * ATOM &&
        (!r->entries || post->views[6].shape[0] == 2 * END + 1))
        return 0;
    PyErr_SetString(PyExc_ValueError, "post: shapes of numbers and entries do not match");
    return -1;
}

/* Reads the tuple; `lanes` are the accumulators of a pixel. Nothing to release on failure. */
static int
get_post(PyObject *tuple, PyObject *out, const Window *w, Py_ssize_t lanes, Post *post)
{
    PyObject *bias, *factors, *operand, *table, *rich = Py_None;
    Stages *s = &post->stages;
    memset(post, 0, sizeof *post);
    if (!PyArg_ParseTuple(tuple, "OOOO(diiiiidii)n|O", &bias, &factors, &operand, &table, &s->clip,
                          &s->add, &s->low, &s->high, &s->low_ew, &s->high_ew, &s->scale,
                          &s->offset, &s->pend, &post->channels, &rich))
        return -1;
    if (get(bias, &post->views[0], PyBUF_C_CONTIGUOUS, "i", 1, "bias") < 0 ||
        (factors != Py_None &&
         get(factors, &post->views[1], PyBUF_C_CONTIGUOUS, "d", 1, "factors") < 0) ||
        (operand != Py_None &&
         (get_cube(operand, &post->views[2], 0, &post->operand, "operand") < 0 ||
          get(table, &post->views[3], PyBUF_C_CONTIGUOUS, "i", 1, "table") < 0)) ||
        get_cube(out, &post->views[4], PyBUF_WRITABLE, &post->out, "out") < 0)
        goto fail;
    post->bias = post->views[0].buf;
    post->factors = post->views[1].buf;
    post->table = post->views[3].buf;
    if (check_post(post, w, lanes) < 0)
        PyErr_SetString(PyExc_ValueError, "post: shapes of operands, window and out do not match");
    else if (rich == Py_None || get_rich(rich, post) == 0)
        return 0;
fail:
    release_post(post);
    return -1;
}

#endif
