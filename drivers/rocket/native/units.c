/* Inner loops of the simulated NPU: windows of the input, depthwise sums, post-processing.
 *
 * Plain buffers in and out; every array's format, shape and contiguity is checked, so that wrong
 * arguments raise ValueError instead of touching memory.  The numpy twins of these loops are in
 * drivers/rocket/tests/test_rocket_units.py and must agree exactly.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define ATOM 16

#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__) && !defined(__clang__)
#define FAST __attribute__((target_clones("avx2", "default")))
#else
#define FAST
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline)) /* into every clone of its caller */
#else
#define INLINE static inline
#endif

/* Rounds to the nearest integer, ties to even, for |x| < 2^51: one exact sum, rounded once by the
 * default mode of the floating point unit. */
#define MAGIC 6755399441055744.0

typedef struct {
    const char *data; /* surface 0, row 0, column 0 */
    Py_ssize_t surfaces, rows, cols;
    Py_ssize_t surface, row; /* bytes from one to the next; columns are ATOM apart */
} Cube;

typedef struct {
    int kernel_h, kernel_w, stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left;
} Window;

static int
get(PyObject *object, Py_buffer *view, int flags, const char *format, int dims, const char *name)
{
    if (PyObject_GetBuffer(object, view, flags | PyBUF_FORMAT) < 0)
        return -1;
    const char *have = view->format ? view->format : "B";
    if (view->ndim != dims || strcmp(have, format) != 0) {
        PyErr_Format(PyExc_ValueError, "%s: has %d dimensions of '%s', must have %d of '%s'", name,
                     view->ndim, have, dims, format);
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

static int
get_cube(PyObject *object, Py_buffer *view, int flags, Cube *cube, const char *name)
{
    if (get(object, view, flags | PyBUF_STRIDES, "b", 4, name) < 0)
        return -1;
    if (view->shape[3] != ATOM || view->strides[3] != 1 ||
        (view->shape[2] > 1 && view->strides[2] != ATOM)) {
        PyErr_Format(PyExc_ValueError, "%s: pixels must be %d bytes next to one another", name,
                     ATOM);
        PyBuffer_Release(view);
        return -1;
    }
    *cube = (Cube){view->buf,        view->shape[0],   view->shape[1],
                   view->shape[2],   view->strides[0], view->strides[1]};
    return 0;
}

static int
check_window(const Window *w)
{
    if (w->kernel_h < 1 || w->kernel_w < 1 || w->stride_y < 1 || w->stride_x < 1 ||
        w->dilation_y < 1 || w->dilation_x < 1 || w->pad_top < 0 || w->pad_left < 0) {
        PyErr_SetString(PyExc_ValueError, "window: sizes must be positive");
        return -1;
    }
    return 0;
}

/* Row blocks start at output row `first`; out has one row per output pixel. */
FAST static void
run_gather(const Cube *in, const Window *w, Py_ssize_t first, Py_ssize_t out_w, Py_ssize_t pixels,
           const int16_t *pad, int16_t *out)
{
    const Py_ssize_t channels = in->surfaces * ATOM;
    for (Py_ssize_t p = 0; p < pixels; p++) {
        const Py_ssize_t oy = first + p / out_w, ox = p % out_w;
        for (int ty = 0; ty < w->kernel_h; ty++) {
            const Py_ssize_t y = oy * w->stride_y + ty * w->dilation_y - w->pad_top;
            for (int tx = 0; tx < w->kernel_w; tx++) {
                const Py_ssize_t x = ox * w->stride_x + tx * w->dilation_x - w->pad_left;
                if (y < 0 || y >= in->rows || x < 0 || x >= in->cols) {
                    memcpy(out, pad, (size_t)channels * sizeof(int16_t));
                    out += channels;
                    continue;
                }
                const char *from = in->data + y * in->row + x * ATOM;
                for (Py_ssize_t u = 0; u < in->surfaces; u++, from += in->surface, out += ATOM) {
                    const int8_t *atom = (const int8_t *)from;
                    for (int k = 0; k < ATOM; k++)
                        out[k] = atom[k];
                }
            }
        }
    }
}

static PyObject *
gather(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *in_object, *pad_object, *out_object;
    Window w;
    Py_ssize_t first, out_w;
    if (!PyArg_ParseTuple(args, "OOO(ii)(ii)(ii)(ii)nn", &in_object, &pad_object, &out_object,
                          &w.kernel_h, &w.kernel_w, &w.stride_y, &w.stride_x, &w.dilation_y,
                          &w.dilation_x, &w.pad_top, &w.pad_left, &first, &out_w) ||
        check_window(&w) < 0)
        return NULL;
    Py_buffer in, pad, out;
    Cube cube;
    PyObject *result = NULL;
    if (get_cube(in_object, &in, 0, &cube, "features") < 0)
        return NULL;
    if (get(pad_object, &pad, PyBUF_C_CONTIGUOUS, "h", 1, "pad") < 0)
        goto free_in;
    if (get(out_object, &out, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE, "h", 2, "out") < 0)
        goto free_pad;
    const Py_ssize_t channels = cube.surfaces * ATOM;
    if (pad.shape[0] != channels || out.shape[1] != channels * w.kernel_h * w.kernel_w ||
        out_w < 1 || first < 0) {
        PyErr_SetString(PyExc_ValueError, "gather: shapes of features, pad and out do not match");
    } else {
        Py_BEGIN_ALLOW_THREADS
        run_gather(&cube, &w, first, out_w, out.shape[0], pad.buf, out.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&out);
free_pad:
    PyBuffer_Release(&pad);
free_in:
    PyBuffer_Release(&in);
    return result;
}

/* Two rows of a times four rows of b; compilers make 16-bit multiply-add instructions of it. */
INLINE void
dots(const int16_t *a0, const int16_t *a1, const int16_t *b0, Py_ssize_t depth, int32_t *out0,
     int32_t *out1)
{
    const int16_t *b1 = b0 + depth, *b2 = b1 + depth, *b3 = b2 + depth;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
    for (Py_ssize_t k = 0; k < depth; k++) {
        s0 += a0[k] * b0[k];
        s1 += a0[k] * b1[k];
        s2 += a0[k] * b2[k];
        s3 += a0[k] * b3[k];
        t0 += a1[k] * b0[k];
        t1 += a1[k] * b1[k];
        t2 += a1[k] * b2[k];
        t3 += a1[k] * b3[k];
    }
    out0[0] = s0, out0[1] = s1, out0[2] = s2, out0[3] = s3;
    out1[0] = t0, out1[1] = t1, out1[2] = t2, out1[3] = t3;
}

#define NEAR 131072 /* elements of a that stay in the second level cache */

FAST static void
run_product(const int16_t *a, const int16_t *b, Py_ssize_t rows, Py_ssize_t depth,
            Py_ssize_t columns, int32_t *out)
{
    Py_ssize_t block = NEAR / depth & ~(Py_ssize_t)1;
    block = block < 2 ? 2 : block;
    for (Py_ssize_t first = 0; first < rows; first += block) {
        const Py_ssize_t end = first + block < rows ? first + block : rows;
        for (Py_ssize_t n = 0; n < columns; n += 4)
            for (Py_ssize_t p = first; p < end; p += 2) {
                const Py_ssize_t q = p + 1 < end ? p + 1 : p;
                dots(a + p * depth, a + q * depth, b + n * depth, depth, out + p * columns + n,
                     out + q * columns + n);
            }
    }
}

static PyObject *
product(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *a_object, *b_object, *out_object, *result = NULL;
    Py_buffer a, b, out;
    if (!PyArg_ParseTuple(args, "OOO", &a_object, &b_object, &out_object) ||
        get(a_object, &a, PyBUF_C_CONTIGUOUS, "h", 2, "a") < 0)
        return NULL;
    if (get(b_object, &b, PyBUF_C_CONTIGUOUS, "h", 2, "b") < 0)
        goto free_a;
    if (get(out_object, &out, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE, "i", 2, "out") < 0)
        goto free_b;
    if (a.shape[1] < 1 || a.shape[1] != b.shape[1] || b.shape[0] % 4 ||
        out.shape[0] != a.shape[0] || out.shape[1] != b.shape[0]) {
        PyErr_SetString(PyExc_ValueError, "product: shapes of a, b and out do not match");
    } else {
        Py_BEGIN_ALLOW_THREADS
        run_product(a.buf, b.buf, a.shape[0], a.shape[1], b.shape[0], out.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&out);
free_b:
    PyBuffer_Release(&b);
free_a:
    PyBuffer_Release(&a);
    return result;
}

/* One tap of one surface over a run of pixels: weights[16] stay in registers. */
INLINE void
tap(const char *from, Py_ssize_t step, Py_ssize_t count, const int32_t *weights, int32_t *out,
    Py_ssize_t out_step)
{
    for (Py_ssize_t i = 0; i < count; i++, from += step, out += out_step) {
        const int8_t *x = (const int8_t *)from;
        for (int k = 0; k < ATOM; k++)
            out[k] += (int32_t)x[k] * weights[k];
    }
}

INLINE void
tap_row(const Cube *in, const Window *w, Py_ssize_t u, Py_ssize_t y, int tx, Py_ssize_t out_w,
        const int8_t *pad, const int32_t *weights, int32_t *out, Py_ssize_t out_step)
{
    const Py_ssize_t shift = tx * w->dilation_x - w->pad_left;
    Py_ssize_t left = shift < 0 ? (-shift + w->stride_x - 1) / w->stride_x : 0;
    Py_ssize_t end = in->cols - shift > 0 ? (in->cols - shift + w->stride_x - 1) / w->stride_x : 0;
    if (y < 0 || y >= in->rows)
        left = end = out_w;
    if (left > out_w)
        left = out_w;
    if (end > out_w)
        end = out_w;
    if (end < left)
        end = left;
    tap((const char *)pad, 0, left, weights, out, out_step);
    if (end > left)
        tap(in->data + u * in->surface + y * in->row + (left * w->stride_x + shift) * ATOM,
            (Py_ssize_t)w->stride_x * ATOM, end - left, weights, out + left * out_step, out_step);
    tap((const char *)pad, 0, out_w - end, weights, out + end * out_step, out_step);
}

FAST static void
run_depthwise(const Cube *in, const Window *w, Py_ssize_t first, Py_ssize_t out_w, Py_ssize_t rows,
              const int8_t *pad, const int32_t *weights, int32_t *out)
{
    const Py_ssize_t channels = in->surfaces * ATOM;
    memset(out, 0, (size_t)(rows * out_w * channels) * sizeof(int32_t));
    for (Py_ssize_t r = 0; r < rows; r++)
        for (Py_ssize_t u = 0; u < in->surfaces; u++)
            for (int ty = 0; ty < w->kernel_h; ty++)
                for (int tx = 0; tx < w->kernel_w; tx++)
                    tap_row(in, w, u,
                            (first + r) * w->stride_y + ty * w->dilation_y - w->pad_top, tx, out_w,
                            pad + u * ATOM, weights + (ty * w->kernel_w + tx) * channels + u * ATOM,
                            out + r * out_w * channels + u * ATOM, channels);
}

static PyObject *
depthwise(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *in_object, *pad_object, *weights_object, *out_object;
    Window w;
    Py_ssize_t first, out_w;
    if (!PyArg_ParseTuple(args, "OOOO(ii)(ii)(ii)(ii)nn", &in_object, &pad_object, &weights_object,
                          &out_object, &w.kernel_h, &w.kernel_w, &w.stride_y, &w.stride_x,
                          &w.dilation_y, &w.dilation_x, &w.pad_top, &w.pad_left, &first, &out_w) ||
        check_window(&w) < 0)
        return NULL;
    Py_buffer in, pad, weights, out;
    Cube cube;
    PyObject *result = NULL;
    if (get_cube(in_object, &in, 0, &cube, "features") < 0)
        return NULL;
    if (get(pad_object, &pad, PyBUF_C_CONTIGUOUS, "b", 1, "pad") < 0)
        goto free_in;
    if (get(weights_object, &weights, PyBUF_C_CONTIGUOUS, "i", 2, "weights") < 0)
        goto free_pad;
    if (get(out_object, &out, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE, "i", 2, "out") < 0)
        goto free_weights;
    const Py_ssize_t channels = cube.surfaces * ATOM;
    if (pad.shape[0] != channels || out.shape[1] != channels || weights.shape[1] != channels ||
        weights.shape[0] != (Py_ssize_t)w.kernel_h * w.kernel_w || out_w < 1 || first < 0 ||
        out.shape[0] % out_w) {
        PyErr_SetString(PyExc_ValueError,
                        "depthwise: shapes of features, pad, weights and out do not match");
    } else {
        Py_BEGIN_ALLOW_THREADS
        run_depthwise(&cube, &w, first, out_w, out.shape[0] / out_w, pad.buf, weights.buf, out.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&out);
free_weights:
    PyBuffer_Release(&weights);
free_pad:
    PyBuffer_Release(&pad);
free_in:
    PyBuffer_Release(&in);
    return result;
}

typedef struct {
    double clip;            /* 2^-t on the accumulator */
    double mul_shift;       /* 2^-shift behind the multipliers */
    double low1, high1;     /* behind BS */
    double add2;            /* of BN */
    double low2, high2;     /* behind BN */
    double low3, high3;     /* behind EW */
    double scale;           /* output multiplier / 2^shift */
    double offset;
    int pend;               /* lanes beyond the last channel */
} Stages;

INLINE double
to_even(double x)
{
    return (x + MAGIC) - MAGIC;
}

INLINE double
clamp(double x, double low, double high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

INLINE void
post_atom(const int32_t *acc, const double *bias, const double *mul, const int8_t *operand,
          const double *table, const Stages *s, int lanes, int8_t *out)
{
    double v[ATOM];
    for (int k = 0; k < ATOM; k++)
        v[k] = k < lanes ? (double)acc[k] : 0.0;
    if (s->clip != 1.0)
        for (int k = 0; k < ATOM; k++)
            v[k] = to_even(v[k] * s->clip);
    for (int k = 0; k < ATOM; k++)
        v[k] += bias[k];
    if (mul)
        for (int k = 0; k < ATOM; k++)
            v[k] = to_even(v[k] * mul[k] * s->mul_shift);
    for (int k = 0; k < ATOM; k++)
        v[k] = clamp(v[k], s->low1, s->high1);
    for (int k = 0; k < ATOM; k++)
        v[k] = clamp(v[k] + s->add2, s->low2, s->high2);
    if (operand)
        for (int k = 0; k < ATOM; k++)
            v[k] += table[operand[k] + 128];
    for (int k = 0; k < ATOM; k++)
        v[k] = clamp(v[k], s->low3, s->high3);
    for (int k = 0; k < ATOM; k++)
        v[k] = clamp(to_even(v[k] * s->scale) + s->offset, -128.0, 127.0);
    for (int k = 0; k < ATOM; k++)
        out[k] = (int8_t)(int32_t)v[k];
    for (int k = lanes; k < ATOM; k++)
        out[k] = (int8_t)s->pend;
}

typedef struct {
    const int32_t *acc; /* [pixel][columns] */
    Py_ssize_t columns;
    const double *bias, *mul; /* padded to whole surfaces; mul may be NULL */
    const Cube *operand;      /* may be NULL */
    const double *table;
    Cube out;
    Py_ssize_t first, rows, channels;
} Work;

FAST static void
run_post(const Work *work, const Stages *stages)
{
    const Cube *out = &work->out;
    for (Py_ssize_t u = 0; u < out->surfaces; u++) {
        const Py_ssize_t left = work->channels - u * ATOM;
        const int lanes = left < ATOM ? (int)left : ATOM;
        const double *mul = work->mul ? work->mul + u * ATOM : NULL;
        for (Py_ssize_t r = 0; r < work->rows; r++) {
            const Py_ssize_t y = work->first + r;
            int8_t *to = (int8_t *)out->data + u * out->surface + y * out->row;
            const int32_t *from = work->acc + r * out->cols * work->columns + u * ATOM;
            const int8_t *operand = work->operand
                ? (const int8_t *)work->operand->data + u * work->operand->surface +
                      y * work->operand->row
                : NULL;
            for (Py_ssize_t x = 0; x < out->cols; x++) {
                post_atom(from, work->bias + u * ATOM, mul, operand, work->table, stages, lanes,
                          to);
                to += ATOM;
                from += work->columns;
                operand = operand ? operand + ATOM : NULL;
            }
        }
    }
}

static int
check_post(const Work *work, const Py_buffer *acc, const Py_buffer *bias, const Py_buffer *mul,
           const Py_buffer *table)
{
    const Py_ssize_t lanes = work->out.surfaces * ATOM;
    const Cube *operand = work->operand;
    if (work->channels < 1 || work->channels > work->columns || work->channels > lanes ||
        work->channels <= lanes - ATOM || bias->shape[0] != lanes ||
        (work->mul && mul->shape[0] != lanes) || work->first < 0 || work->out.cols < 1 ||
        acc->shape[0] != work->rows * work->out.cols || work->first + work->rows > work->out.rows)
        return -1;
    if (operand && (operand->surfaces != work->out.surfaces || operand->rows != work->out.rows ||
                    operand->cols != work->out.cols || table->shape[0] != 256))
        return -1;
    return 0;
}

static PyObject *
post(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *acc_object, *bias_object, *mul_object, *operand_object, *table_object, *out_object;
    Stages s;
    Work work = {0};
    Py_buffer acc = {0}, bias = {0}, mul = {0}, operand = {0}, table = {0}, out = {0};
    Cube operand_cube;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "OOOOOO(dddddddddddi)nn", &acc_object, &bias_object, &mul_object,
                          &operand_object, &table_object, &out_object, &s.clip, &s.mul_shift,
                          &s.low1, &s.high1, &s.add2, &s.low2, &s.high2, &s.low3, &s.high3,
                          &s.scale, &s.offset, &s.pend, &work.first, &work.channels))
        return NULL;
    if (get(acc_object, &acc, PyBUF_C_CONTIGUOUS, "i", 2, "acc") < 0)
        return NULL;
    if (get(bias_object, &bias, PyBUF_C_CONTIGUOUS, "d", 1, "bias") < 0)
        goto done;
    if (mul_object != Py_None && get(mul_object, &mul, PyBUF_C_CONTIGUOUS, "d", 1, "mul") < 0)
        goto done;
    if (operand_object != Py_None) {
        if (get_cube(operand_object, &operand, 0, &operand_cube, "operand") < 0 ||
            get(table_object, &table, PyBUF_C_CONTIGUOUS, "d", 1, "table") < 0)
            goto done;
        work.operand = &operand_cube;
        work.table = table.buf;
    }
    if (get_cube(out_object, &out, PyBUF_WRITABLE, &work.out, "out") < 0)
        goto done;
    work.acc = acc.buf;
    work.columns = acc.shape[1];
    work.bias = bias.buf;
    work.mul = mul.obj ? mul.buf : NULL;
    work.rows = work.out.cols > 0 ? acc.shape[0] / work.out.cols : 0;
    if (check_post(&work, &acc, &bias, &mul, &table) < 0) {
        PyErr_SetString(PyExc_ValueError, "post: shapes of acc, operands and out do not match");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    run_post(&work, &s);
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&acc);
    PyBuffer_Release(&bias);
    PyBuffer_Release(&mul);
    PyBuffer_Release(&operand);
    PyBuffer_Release(&table);
    PyBuffer_Release(&out);
    return result;
}

static PyMethodDef methods[] = {
    {"gather", gather, METH_VARARGS,
     "gather(features, pad, out, kernel, stride, dilation, pads, first_row, out_width)\n"
     "Windows of int8 features [u, y, x, 16] as int16 rows [pixel, (ty, tx, channel)]."},
    {"product", product, METH_VARARGS,
     "product(a, b, out)\n"
     "out = a x b transposed, int16 to int32; b has a multiple of four rows."},
    {"depthwise", depthwise, METH_VARARGS,
     "depthwise(features, pad, weights, out, kernel, stride, dilation, pads, first_row, width)\n"
     "Sums of int8 features times int32 weights [tap, channel] as int32 rows [pixel, channel]."},
    {"post", post, METH_VARARGS,
     "post(acc, bias, mul, operand, table, out, stages, first_row, channels)\n"
     "Accumulators [pixel, channel] to int8 surfaces [u, y, x, 16], ties to even."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_units", "Inner loops of the simulated NPU.", 0, methods,
    NULL,                  NULL,     NULL,                                NULL,
};

PyMODINIT_FUNC
PyInit__units(void)
{
    return PyModule_Create(&module);
}
