/* Weights of a kernel rounded to another scale, so that the errors of a kernel add up to nothing.
 *
 * Each weight goes to the nearest number; then those that were nearest to a half go to the other
 * side, as many as it takes for the sum of the errors to be less than a half.
 */

#include "coefs.h"

#include <math.h>

enum { BINS = 128 };
#define FAR 1e9f

struct rows {
    const uint8_t *from;
    const float *factors;
    uint8_t *to;
    double *powers; /* of each row: the sum of squares of weights, and of errors */
    Py_ssize_t count, columns;
    int zero, to_zero;
};

/* How far a rounded number is off, counted in bins, along `sign`; below 0 if not that way. */
static inline int bin_of(float off, float sign)
{
    float along = off * sign;
    if (along <= 0)
        return -1;
    int bin = (int)(along * (2 * BINS));
    return bin < BINS ? bin : BINS - 1;
}

static inline uint8_t clipped(float value, int zero)
{
    float shifted = value + (float)zero;
    return (uint8_t)(shifted < 0 ? 0 : shifted > 255 ? 255 : shifted);
}

/* The values of a row: all of it, or each that occurs once, with its number. */
struct values {
    uint8_t value[256];
    Py_ssize_t times[256];
    float exact[256], near[256];
    int bin[256], count;
};

static void gather(const struct rows *rows, const uint8_t *from, struct values *found)
{
    found->count = 0;
    if (rows->columns <= 256) {
        for (Py_ssize_t i = 0; i < rows->columns; i++) {
            found->value[found->count] = from[i];
            found->times[found->count++] = 1;
        }
        return;
    }
    uint32_t counts[256] = {0};
    for (Py_ssize_t i = 0; i < rows->columns; i++)
        counts[from[i]]++;
    for (int v = 0; v < 256; v++)
        if (counts[v]) {
            found->value[found->count] = (uint8_t)v;
            found->times[found->count++] = counts[v];
        }
}

/* What each value of a row becomes; `left` of those in the bin `partial` become `other`. */
struct plan {
    uint8_t to[256], other[256];
    int split[256];
    float exact[256];
    Py_ssize_t left;
};

static double squared(double x)
{
    return x * x;
}

static void plan_row(const struct rows *rows, Py_ssize_t row, struct values *v, struct plan *plan)
{
    double total = 0;
    for (int n = 0; n < v->count; n++) {
        float exact = (float)(v->value[n] - rows->zero) * rows->factors[row];
        v->exact[n] = fminf(fmaxf(exact, -FAR), FAR); /* numbers, also where factors are none */
        v->near[n] = rintf(v->exact[n]);
        total += (double)v->times[n] * (v->near[n] - v->exact[n]);
    }
    float sign = total < 0 ? -1 : 1;
    Py_ssize_t in_bin[BINS] = {0};
    int limit = BINS;
    for (int n = 0; n < v->count; n++) {
        v->bin[n] = bin_of(v->near[n] - v->exact[n], sign);
        if (v->bin[n] >= 0)
            in_bin[v->bin[n]] += v->times[n];
    }
    plan->left = (Py_ssize_t)rint(fabs(total));
    while (limit > 0 && plan->left && plan->left >= in_bin[limit - 1])
        plan->left -= in_bin[--limit];
    /* All in the bins from `limit` on go to the other side, of the bin below it the first ones. */
    for (int n = 0; n < v->count; n++) {
        int value = v->value[n], flip = v->bin[n] >= limit;
        plan->other[value] = clipped(v->near[n] - sign, rows->to_zero);
        plan->to[value] = flip ? plan->other[value] : clipped(v->near[n], rows->to_zero);
        plan->split[value] = v->bin[n] >= 0 && v->bin[n] == limit - 1;
        plan->exact[value] = v->exact[n];
    }
}

static void one_row(const struct rows *rows, Py_ssize_t row)
{
    const uint8_t *from = rows->from + row * rows->columns;
    uint8_t *to = rows->to + row * rows->columns;
    struct values values;
    struct plan plan;
    double signal = 0, noise = 0;
    gather(rows, from, &values);
    plan_row(rows, row, &values, &plan);
    for (int n = 0; n < values.count; n++) {
        double have = plan.to[values.value[n]] - rows->to_zero;
        signal += (double)values.times[n] * squared(values.exact[n]);
        noise += (double)values.times[n] * squared(have - values.exact[n]);
    }
    for (Py_ssize_t i = 0; i < rows->columns; i++) {
        int value = from[i];
        to[i] = plan.to[value];
        if (plan.left > 0 && plan.split[value]) {
            double near = to[i] - rows->to_zero, other = plan.other[value] - rows->to_zero;
            noise += squared(other - plan.exact[value]) - squared(near - plan.exact[value]);
            to[i] = plan.other[value];
            plan.left--;
        }
    }
    rows->powers[2 * row] = signal;
    rows->powers[2 * row + 1] = noise;
}

PyObject *round_rows(PyObject *self, PyObject *args)
{
    Py_buffer data, factors;
    PyObject *bytes = NULL, *powers = NULL;
    struct rows rows = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*(nn)ii", &data, &factors, &rows.count, &rows.columns,
                          &rows.zero, &rows.to_zero))
        return NULL;
    Py_ssize_t room = factors.len / (Py_ssize_t)sizeof(float);
    if (rows.count <= 0 || rows.count != room || data.len / rows.count != rows.columns ||
        data.len % rows.count)
        PyErr_SetString(PyExc_ValueError, "round_rows: the sizes of data and factors disagree");
    else if ((bytes = PyBytes_FromStringAndSize(NULL, data.len)))
        powers = PyBytes_FromStringAndSize(NULL, rows.count * 2 * (Py_ssize_t)sizeof(double));
    if (powers) {
        rows.from = data.buf;
        rows.factors = factors.buf;
        rows.to = (uint8_t *)PyBytes_AS_STRING(bytes);
        rows.powers = (double *)PyBytes_AS_STRING(powers);
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t row = 0; row < rows.count; row++)
            one_row(&rows, row);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&factors);
    if (powers)
        return Py_BuildValue("NN", bytes, powers);
    Py_XDECREF(bytes);
    return NULL;
}
