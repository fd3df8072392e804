/* The simulated TP cores: jobs that move pixels.
 *
 * Ref: docs/hardware/etnaviv.md section 8.3
 *
 * Plain buffers in and out; every access is checked against its buffer.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LOOPS 6
#define TABLE_MAX (1 << 16)

/* A TP job as numbers of 64 bits; the order is that of `_job` in simulator/tp.py. */
struct tp {
    int64_t x, y, width, height;           /* the window, from its first pixel on */
    int64_t tile_x, tile_y, step_x, step_y; /* size of a tile, and from one to the next */
    int64_t z, planes;                     /* first plane, and how many */
    int64_t image_x, image_y, image_z, stride, slice;
    int64_t padding; /* the byte of a pixel outside of the image */
    int64_t nested;  /* loops 0 to 5 count pixels; else 1 to 4 are the place in the tiling */
    int64_t count[LOOPS], step[LOOPS + 1];
};

struct range {
    int64_t first, end;
};

static void
widen(struct range *r, int64_t at)
{
    r->first = at < r->first ? at : r->first;
    r->end = at >= r->end ? at + 1 : r->end;
}

/* Counters nested in one another; `table` holds the offsets of the fastest ones together. */
struct counters {
    const int64_t *table;
    int64_t size, at, base;
    int level; /* the first loop that is not in the table */
    int even;  /* the offsets in the table are `step` apart */
    int64_t step;
    struct range offsets; /* in the table */
    int64_t index[LOOPS + 1];
};

static void
carry(struct counters *c, const struct tp *j)
{
    c->at = 0;
    for (int n = c->level; n < LOOPS; n++) {
        c->base += j->step[n];
        if (++c->index[n] < j->count[n])
            return;
        c->base -= j->count[n] * j->step[n];
        c->index[n] = 0;
    }
    c->base += j->step[LOOPS];
}

static int64_t *
loop_table(struct counters *c, const struct tp *j)
{
    const int both = j->count[0] * j->count[1] <= TABLE_MAX;
    const int64_t outer = both ? j->count[1] : 1;
    int64_t *table;
    c->level = both ? 2 : 1;
    c->size = outer * j->count[0];
    table = malloc((size_t)c->size * sizeof *table);
    for (int64_t b = 0, n = 0; table && b < outer; b++)
        for (int64_t a = 0; a < j->count[0]; a++)
            table[n++] = b * j->step[1] + a * j->step[0];
    c->table = table;
    c->step = table && c->size > 1 ? table[1] - table[0] : 1;
    c->even = 1;
    c->offsets = (struct range){INT64_MAX, INT64_MIN};
    for (int64_t n = 0; table && n < c->size; n++)
        widen(&c->offsets, table[n]);
    for (int64_t n = 1; table && n < c->size; n++)
        c->even &= table[n] - table[n - 1] == c->step;
    return table;
}

struct move {
    const struct tp *job;
    const uint8_t *image, *map;
    uint8_t *out; /* NULL: measure only */
    int64_t image_size, out_size, out_base;
    struct range read, written;
    struct counters counters;
    int plain; /* the map changes nothing */
};

/* Where pixels that follow one another go: to base + table[k], or without a table base + k * step;
 * `least` and `most` bound the table. */
struct targets {
    const int64_t *table;
    int64_t base, step, least, most;
};

static struct range
reach(const struct targets *to, int64_t count)
{
    struct range r = {INT64_MAX, INT64_MIN};
    if (!to->table) {
        widen(&r, to->base);
        widen(&r, to->base + (count - 1) * to->step);
        return r;
    }
    for (int64_t k = 0; k < count; k++)
        widen(&r, to->base + to->table[k]);
    return r;
}

static int
fits(const struct move *m, const struct targets *to, int64_t count)
{
    const int64_t first = m->out_base, end = m->out_base + m->out_size;
    if (to->table && to->base + to->least >= first && to->base + to->most < end)
        return 1;
    const struct range r = reach(to, count);
    return r.first >= first && r.end <= end;
}

static void
measure(struct move *m, const struct targets *to, int64_t count, int64_t from, int64_t step)
{
    const struct range r = reach(to, count);
    widen(&m->written, r.first);
    widen(&m->written, r.end - 1);
    if (from >= 0) {
        widen(&m->read, from);
        widen(&m->read, from + (count - 1) * step);
    }
}

/* `count` pixels of the image from `from` on by `step`, or of padding where from < 0. */
static int
put(struct move *m, const struct targets *to, int64_t count, int64_t from, int64_t step)
{
    if (!m->out) {
        measure(m, to, count, from, step);
        return 1;
    }
    if (!fits(m, to, count) || from + (count - 1) * step >= m->image_size)
        return 0;
    const uint8_t *map = m->map, *image = m->image + (from < 0 ? 0 : from);
    const uint8_t padding = (uint8_t)m->job->padding;
    const int64_t base = to->base - m->out_base, *table = to->table;
    uint8_t *out = m->out;
    if (table && from >= 0)
        for (int64_t k = 0; k < count; k++)
            out[base + table[k]] = map[image[k * step]];
    else if (table)
        for (int64_t k = 0; k < count; k++)
            out[base + table[k]] = padding;
    else if (from < 0)
        for (int64_t k = 0; k < count; k++)
            out[base + k * to->step] = padding;
    else if (to->step == 1 && step == 1 && m->plain)
        memcpy(out + base, image, (size_t)count);
    else
        for (int64_t k = 0; k < count; k++)
            out[base + k * to->step] = map[image[k * step]];
    return 1;
}

/* The same pixels, to the next places of nested counters, or to places from `to` on by `by`. */
static int
emit(struct move *m, int64_t to, int64_t by, int64_t count, int64_t from, int64_t step)
{
    struct counters *c = &m->counters;
    if (!m->job->nested) {
        const struct targets line = {.base = to, .step = by};
        return count <= 0 || put(m, &line, count, from, step);
    }
    while (count > 0) {
        if (c->at == c->size)
            carry(c, m->job);
        const int64_t left = c->size - c->at, run = left < count ? left : count;
        const struct targets next = {
            .table = c->even ? NULL : c->table + c->at,
            .base = c->base + (c->even ? c->table[c->at] : 0),
            .step = c->step, .least = c->offsets.first, .most = c->offsets.end - 1,
        };
        if (!put(m, &next, run, from, step))
            return 0;
        c->at += run;
        count -= run;
        from += from < 0 ? 0 : run * step;
    }
    return 1;
}

/* Pixels in a line along x or y. */
struct line {
    int64_t x, y, z, count;
    int64_t along_x, along_y; /* pixels from one to the next; one of them is 0 */
    int64_t to, by;           /* first place and step, unless places are counted */
};

static int
move_line(struct move *m, const struct line *l)
{
    const struct tp *j = m->job;
    const int64_t size = l->along_x ? j->image_x : j->image_y, step = l->along_x + l->along_y;
    const int64_t start = l->along_x ? l->x : l->y, across = l->along_x ? l->y : l->x;
    const int64_t other = l->along_x ? j->image_y : j->image_x;
    int64_t before = start < 0 ? (-start + step - 1) / step : 0;
    int64_t end = start < size ? (size - start + step - 1) / step : 0;
    if (across < 0 || across >= other || l->z < 0 || l->z >= j->image_z)
        end = 0;
    end = end < l->count ? end : l->count;
    before = before < l->count ? before : l->count;
    end = end < before ? before : end;
    const int64_t first = l->z * j->slice + (l->y + before * l->along_y) * j->stride + l->x +
                          before * l->along_x;
    return emit(m, l->to, l->by, before, -1, 0) &&
           emit(m, l->to + before * l->by, l->by, end - before, first,
                l->along_x + l->along_y * j->stride) &&
           emit(m, l->to + end * l->by, l->by, l->count - end, -1, 0);
}

/* All pixels in the order in which the hardware emits them; 0 where one is out of its buffer. */
static int
move_tile(struct move *m, int64_t p, int64_t tx, int64_t ty)
{
    const struct tp *j = m->job;
    const int64_t x = tx * j->step_x, y = ty * j->step_y;
    const int64_t wide = j->width - x < j->tile_x ? j->width - x : j->tile_x;
    const int64_t high = j->height - y < j->tile_y ? j->height - y : j->tile_y;
    struct line line = {.x = j->x + x, .y = j->y + y, .z = j->z + p};
    line.to = p * j->step[6] + tx * j->step[3] + ty * j->step[4];
    if (wide == 1) {
        line.count = high, line.along_y = 1, line.by = j->step[2];
        return move_line(m, &line);
    }
    line.count = wide, line.along_x = 1, line.by = j->step[1];
    for (int64_t row = 0; row < high; row++, line.y++, line.to += j->step[2])
        if (!move_line(m, &line))
            return 0;
    return 1;
}

static int
move_all(struct move *m)
{
    const struct tp *j = m->job;
    const int64_t across = (j->width + j->step_x - 1) / j->step_x;
    const int64_t down = (j->height + j->step_y - 1) / j->step_y;
    for (int64_t p = 0; p < j->planes; p++)
        for (int64_t ty = 0; ty < down; ty++) {
            if (j->tile_x == 1 && j->tile_y == 1) { /* a row of tiles is a line */
                const struct line line = {
                    .x = j->x, .y = j->y + ty * j->step_y, .z = j->z + p, .count = across,
                    .along_x = j->step_x, .to = p * j->step[6] + ty * j->step[4], .by = j->step[3],
                };
                if (!move_line(m, &line))
                    return 0;
                continue;
            }
            for (int64_t tx = 0; tx < across; tx++)
                if (!move_tile(m, p, tx, ty))
                    return 0;
        }
    return 1;
}

#define WIDEST (1 << 17) /* what fields of 16 bits can hold, with padding planes */

/* Every number that a job's fields can hold keeps the arithmetic above within 64 bits: counts and
 * places of pixels have 16 bits, what they are multiplied by has 32. */
static int
is_sane(const struct tp *j, Py_ssize_t size)
{
    if (size != sizeof *j)
        return 0;
    const int64_t *numbers = (const int64_t *)j;
    for (size_t i = 0; i < sizeof *j / sizeof *numbers; i++)
        if (numbers[i] < INT32_MIN || numbers[i] > UINT32_MAX)
            return 0;
    for (const int64_t *n = numbers; n <= &j->image_z; n++)
        if (*n < -WIDEST || *n > WIDEST)
            return 0;
    for (int i = 0; i < LOOPS; i++)
        if (j->nested && (j->count[i] < 1 || j->count[i] > 1 << 16))
            return 0;
    return j->width > 0 && j->height > 0 && j->planes > 0 && j->tile_x > 0 && j->tile_y > 0 &&
           j->step_x > 0 && j->step_y > 0 && j->stride >= 0 && j->slice >= 0;
}

static const char *
run_move(struct move *m)
{
    int64_t *table = NULL;
    if (m->job->nested && !(table = loop_table(&m->counters, m->job)))
        return "no memory for the counters";
    const int fits = move_all(m);
    free(table);
    return fits ? NULL : "a pixel lies outside of its buffer";
}

static PyObject *
extent(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer job;
    struct tp numbers;
    const char *problem = "the job's numbers are out of range";
    if (!PyArg_ParseTuple(args, "y*", &job))
        return NULL;
    struct move m = {.job = &numbers, .read = {INT64_MAX, 0}, .written = {INT64_MAX, INT64_MIN}};
    memcpy(&numbers, job.buf, job.len == sizeof numbers ? sizeof numbers : 0);
    if (job.len == sizeof numbers && is_sane(&numbers, job.len)) {
        Py_BEGIN_ALLOW_THREADS
        problem = run_move(&m);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&job);
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        return NULL;
    }
    return Py_BuildValue("(LLLL)", (long long)m.read.first, (long long)m.read.end,
                         (long long)m.written.first, (long long)m.written.end);
}

static PyObject *
move(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer image, map, out, job;
    struct tp numbers;
    long long base;
    const char *problem = "the job's numbers are out of range";
    if (!PyArg_ParseTuple(args, "y*y*w*y*L", &image, &map, &out, &job, &base))
        return NULL;
    struct move m = {.job = &numbers, .image = image.buf, .map = map.buf, .out = out.buf,
                     .image_size = image.len, .out_size = out.len, .out_base = base};
    memcpy(&numbers, job.buf, job.len == sizeof numbers ? sizeof numbers : 0);
    m.plain = map.len == 256;
    for (int i = 0; m.plain && i < 256; i++)
        m.plain = m.map[i] == i;
    if (job.len == sizeof numbers && map.len == 256 && is_sane(&numbers, job.len)) {
        Py_BEGIN_ALLOW_THREADS
        problem = run_move(&m);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&image);
    PyBuffer_Release(&map);
    PyBuffer_Release(&out);
    PyBuffer_Release(&job);
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"extent", extent, METH_VARARGS, "First byte and end of what a TP job reads and writes."},
    {"move", move, METH_VARARGS, "Run a TP job."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_moves", "TP jobs of the simulated NPU.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__moves(void)
{
    return PyModule_Create(&module);
}
