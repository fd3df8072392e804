/* Weights of a kernel rounded to another scale, so that the errors of a kernel add up to nothing.
 *
 * Each weight goes to the nearest number; then those that were nearest to a half go to the other
 * side, as many as it takes for the sum of the errors to be less than a half.
 */

#include "coefs.h"

#include <math.h>

enum { BINS = 128 };

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

static void one_row(const struct rows *rows, Py_ssize_t row, const float *exact, const float *near)
{
    const uint8_t *from = rows->from + row * rows->columns;
    uint8_t *to = rows->to + row * rows->columns;
    double total = 0;
    for (Py_ssize_t i = 0; i < rows->columns; i++)
        total += near[from[i]] - exact[from[i]];
    float sign = total < 0 ? -1 : 1;
    Py_ssize_t left = (Py_ssize_t)rint(fabs(total)), counts[BINS] = {0};
    int bins[256], limit = BINS;
    for (int v = 0; v < 256; v++)
        bins[v] = bin_of(near[v] - exact[v], sign);
    if (left) {
        for (Py_ssize_t i = 0; i < rows->columns; i++)
            if (bins[from[i]] >= 0)
                counts[bins[from[i]]]++;
        while (limit > 0 && left >= counts[limit - 1])
            left -= counts[--limit];
    }
    double signal = 0, noise = 0;
    /* All in the bins from `limit` on go to the other side, of the bin below it the first ones. */
    for (Py_ssize_t i = 0; i < rows->columns; i++) {
        int bin = bins[from[i]];
        int flip = bin >= 0 && (bin >= limit || (bin == limit - 1 && left > 0));
        left -= flip && bin == limit - 1;
        to[i] = clipped(near[from[i]] - (flip ? sign : 0), rows->to_zero);
        double wanted = exact[from[i]], error = to[i] - rows->to_zero - wanted;
        signal += wanted * wanted;
        noise += error * error;
    }
    rows->powers[2 * row] = signal;
    rows->powers[2 * row + 1] = noise;
}

static void all_rows(const struct rows *rows)
{
    float exact[256], near[256];
    for (Py_ssize_t row = 0; row < rows->count; row++) {
        for (int v = 0; v < 256; v++) {
            exact[v] = (float)(v - rows->zero) * rows->factors[row];
            near[v] = rintf(exact[v]);
        }
        one_row(rows, row, exact, near);
    }
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
    if (rows.count < 0 || rows.columns < 0 || factors.len != rows.count * (Py_ssize_t)sizeof(float) ||
        (rows.count && data.len / rows.count != rows.columns) ||
        data.len != rows.count * rows.columns)
        PyErr_SetString(PyExc_ValueError, "round_rows: the sizes of data and factors disagree");
    else if ((bytes = PyBytes_FromStringAndSize(NULL, data.len)))
        powers = PyBytes_FromStringAndSize(NULL, rows.count * 2 * (Py_ssize_t)sizeof(double));
    if (powers) {
        rows.from = data.buf;
        rows.factors = factors.buf;
        rows.to = (uint8_t *)PyBytes_AS_STRING(bytes);
        rows.powers = (double *)PyBytes_AS_STRING(powers);
        Py_BEGIN_ALLOW_THREADS
        all_rows(&rows);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&factors);
    if (powers)
        return Py_BuildValue("NN", bytes, powers);
    Py_XDECREF(bytes);
    return NULL;
}
