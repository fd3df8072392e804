/* V7 coefficient streams: zero runs of a width that is chosen by counting.
 *
 * Ref: docs/hardware/etnaviv.md sections 7.1 to 7.3
 */

#include "coefs.h"

#define MAX_RUN_BITS 8

enum order { ORDER_SIX = 0, ORDER_INTERLEAVED = 1, ORDER_SEQUENTIAL = 2 };

/* One layer as the V7 walker sees it. Kernels with a number >= oc are phantoms: zero weights. */
struct v7_layer {
    const uint8_t *weights;   /* [oc][ic][taps], or [oc][taps] when diagonal */
    const int32_t *bias;      /* [per_core * cores], corrected */
    const uint32_t *trailers; /* [per_core * cores], the word behind each kernel */
    const uint16_t *perm;     /* [walk]: tap numbers in the order of the stream */
    Py_ssize_t walk;
    Py_ssize_t oc, ic, taps, cores, per_core, superblocks;
    int zero, fill, order, diagonal;
};

/* Counts symbols for all run widths (out == NULL) or writes them for one. */
struct v7_sink {
    struct writer *out;
    int zero;
    unsigned width;
    uint64_t pending; /* zero weights not yet written */
    uint64_t plain;   /* non-zero weights without zeros before them */
    uint64_t symbols[MAX_RUN_BITS + 1];
    uint64_t words;
};

static inline void emit(struct v7_sink *s, uint64_t run, int value)
{
    put_bits(s->out, run | (uint64_t)value << s->width, s->width + 8);
}

static void emit_full_runs(struct v7_sink *s)
{
    uint64_t full = s->pending >> s->width, most = ((uint64_t)1 << s->width) - 1;
    for (uint64_t i = 0; i < full; i++)
        emit(s, most, s->zero);
    s->pending &= most;
}

static inline void zeros(struct v7_sink *s, uint64_t count)
{
    s->pending += count;
}

static inline void value(struct v7_sink *s, int v)
{
    if (v == s->zero) {
        s->pending++;
        return;
    }
    if (s->out) {
        if (s->pending)
            emit_full_runs(s);
        emit(s, s->pending, v);
    } else if (s->pending) {
        for (unsigned z = 0; z <= MAX_RUN_BITS; z++)
            s->symbols[z] += (s->pending >> z) + 1;
    } else {
        s->plain++;
    }
    s->pending = 0;
}

static void flush(struct v7_sink *s)
{
    if (!s->pending)
        return;
    if (s->out) {
        emit_full_runs(s);
        if (s->pending)
            emit(s, s->pending - 1, s->zero);
    } else {
        for (unsigned z = 0; z <= MAX_RUN_BITS; z++)
            s->symbols[z] += (s->pending + ((uint64_t)1 << z) - 1) >> z;
    }
    s->pending = 0;
}

static void word(struct v7_sink *s, uint32_t w)
{
    flush(s);
    s->words++;
    if (s->out)
        put_bits(s->out, w, 32);
}

static inline void fill(const struct v7_layer *l, struct v7_sink *s, Py_ssize_t count)
{
    if (l->fill == l->zero) {
        zeros(s, (uint64_t)count);
        return;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        value(s, l->fill);
}

/* The taps of one input plane of one kernel; the bias follows the first tap of plane 0. */
static void plane(const struct v7_layer *l, struct v7_sink *s, Py_ssize_t kernel, Py_ssize_t ic)
{
    const uint8_t *w = NULL;
    Py_ssize_t from = 0;
    if (kernel < l->oc && !l->diagonal)
        w = l->weights + (kernel * l->ic + ic) * l->taps;
    else if (kernel < l->oc && kernel == ic)
        w = l->weights + kernel * l->taps;
    if (ic == 0) {
        if (w)
            value(s, w[l->perm[0]]);
        else if (kernel < l->oc)
            fill(l, s, 1);
        else
            zeros(s, 1);
        word(s, (uint32_t)l->bias[kernel]);
        from = 1;
    }
    if (w)
        for (Py_ssize_t t = from; t < l->walk; t++)
            value(s, w[l->perm[t]]);
    else if (kernel < l->oc)
        fill(l, s, l->walk - from);
    else
        zeros(s, (uint64_t)(l->walk - from));
}

static void walk_six(const struct v7_layer *l, struct v7_sink *s, Py_ssize_t first, Py_ssize_t count)
{
    Py_ssize_t step = l->ic < 6 ? l->ic : 6;
    for (Py_ssize_t at = 0; at < l->ic; at += step) {
        Py_ssize_t end = at + step < l->ic ? at + step : l->ic;
        for (Py_ssize_t k = first; k < first + count; k++) {
            for (Py_ssize_t ic = at; ic < end; ic++)
                plane(l, s, k, ic);
            if (end == l->ic)
                word(s, l->trailers[k]);
        }
    }
}

static void walk_interleaved(const struct v7_layer *l, struct v7_sink *s, Py_ssize_t first,
                             Py_ssize_t count, int last_superblock)
{
    for (Py_ssize_t ic = 0; ic < l->ic; ic++) {
        for (Py_ssize_t k = first; k < first + count; k++) {
            plane(l, s, k, ic);
            if (ic == l->ic - 1)
                word(s, l->trailers[k]);
        }
        if (last_superblock)
            flush(s);
    }
}

static void walk_sequential(const struct v7_layer *l, struct v7_sink *s, Py_ssize_t first,
                            Py_ssize_t count)
{
    for (Py_ssize_t k = first; k < first + count; k++) {
        for (Py_ssize_t ic = 0; ic < l->ic; ic++)
            plane(l, s, k, ic);
        word(s, l->trailers[k]);
    }
}

static void walk_core(const struct v7_layer *l, struct v7_sink *s, Py_ssize_t core)
{
    Py_ssize_t full = (l->per_core + l->superblocks - 1) / l->superblocks;
    for (Py_ssize_t sb = 0; sb < l->superblocks; sb++) {
        int last = sb == l->superblocks - 1;
        Py_ssize_t count = last ? l->per_core - full * sb : full;
        Py_ssize_t first = core * count + sb * full * l->cores;
        if (l->order == ORDER_SIX)
            walk_six(l, s, first, count);
        else if (l->order == ORDER_INTERLEAVED)
            walk_interleaved(l, s, first, count, last);
        else
            walk_sequential(l, s, first, count);
    }
    flush(s);
}

struct v7_args {
    Py_buffer weights, bias, trailers, perm;
    struct v7_layer layer;
};

static void v7_release(struct v7_args *a)
{
    PyBuffer_Release(&a->weights);
    PyBuffer_Release(&a->bias);
    PyBuffer_Release(&a->trailers);
    PyBuffer_Release(&a->perm);
}

static int v7_sizes_agree(const struct v7_args *a)
{
    const struct v7_layer *l = &a->layer;
    Py_ssize_t planes = l->diagonal ? 1 : l->ic;
    Py_ssize_t words = a->bias.len < a->trailers.len ? a->bias.len / 4 : a->trailers.len / 4;
    /* Divided, since the product of sizes that do not fit may not fit 64 bits either. */
    if (l->oc < 1 || l->ic < 1 || l->taps < 1 || l->walk < 1 || l->cores < 1 || l->per_core < 1
        || l->superblocks < 1 || l->superblocks > l->per_core || l->per_core > words / l->cores
        || planes > a->weights.len / l->oc / l->taps
        || (l->per_core + l->superblocks - 1) / l->superblocks * (l->superblocks - 1) >= l->per_core)
        return 0;
    for (Py_ssize_t i = 0; i < l->walk; i++)
        if (l->perm[i] >= l->taps)
            return 0;
    return 1;
}

static int v7_parse(PyObject *shape, struct v7_args *a)
{
    struct v7_layer *l = &a->layer;
    if (!PyArg_ParseTuple(shape, "nnnnnniiii", &l->oc, &l->ic, &l->taps, &l->cores, &l->per_core,
                          &l->superblocks, &l->zero, &l->fill, &l->order, &l->diagonal))
        return 0;
    l->weights = a->weights.buf;
    l->bias = a->bias.buf;
    l->trailers = a->trailers.buf;
    l->perm = a->perm.buf;
    l->walk = a->perm.len / 2;
    if (v7_sizes_agree(a))
        return 1;
    PyErr_SetString(PyExc_ValueError, "v7: sizes of the buffers and of the layer disagree");
    return 0;
}

PyObject *v7_costs(PyObject *self, PyObject *args)
{
    struct v7_args a;
    PyObject *shape, *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*O!", &a.weights, &a.bias, &a.trailers, &a.perm,
                          &PyTuple_Type, &shape))
        return NULL;
    if (!v7_parse(shape, &a))
        goto done;
    result = PyList_New(a.layer.cores);
    for (Py_ssize_t core = 0; result && core < a.layer.cores; core++) {
        struct v7_sink s = {.zero = a.layer.zero};
        Py_BEGIN_ALLOW_THREADS
        walk_core(&a.layer, &s, core);
        Py_END_ALLOW_THREADS
        PyObject *row = PyTuple_New(MAX_RUN_BITS + 1);
        if (!row) {
            Py_CLEAR(result);
            break;
        }
        for (unsigned z = 0; z <= MAX_RUN_BITS; z++) {
            uint64_t bits = 24 + (s.symbols[z] + s.plain) * (z + 8) + 32 * s.words;
            PyTuple_SET_ITEM(row, z, PyLong_FromUnsignedLongLong(bits));
        }
        PyList_SET_ITEM(result, core, row);
    }
done:
    v7_release(&a);
    return result;
}

PyObject *v7_stream(PyObject *self, PyObject *args)
{
    struct v7_args a;
    PyObject *shape, *result = NULL;
    Py_ssize_t core, bits;
    unsigned width;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*O!nIn", &a.weights, &a.bias, &a.trailers, &a.perm,
                          &PyTuple_Type, &shape, &core, &width, &bits))
        return NULL;
    if (!v7_parse(shape, &a))
        goto done;
    if (core < 0 || core >= a.layer.cores || width > MAX_RUN_BITS || bits < 24) {
        PyErr_SetString(PyExc_ValueError, "v7_stream: core, width or size out of range");
        goto done;
    }
    Py_ssize_t size = (bits + 511) / 512 * 64;
    result = PyBytes_FromStringAndSize(NULL, size);
    if (!result)
        goto done;
    uint8_t *start = (uint8_t *)PyBytes_AS_STRING(result);
    struct writer out = {.at = start, .end = start + size};
    struct v7_sink s = {.out = &out, .zero = a.layer.zero, .width = width};
    Py_BEGIN_ALLOW_THREADS
    memset(start, 0, (size_t)size);
    put_bits(&out, width, 8);
    put_bits(&out, (uint64_t)a.layer.per_core, 16);
    walk_core(&a.layer, &s, core);
    end_bits(&out);
    Py_END_ALLOW_THREADS
done:
    v7_release(&a);
    return result;
}
