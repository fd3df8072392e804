/* Knots of lookup tables whose interpolated values lie within given bounds: the module _knots.
 *
 * A table is read at the difference n of a byte and the job's zero point: the 21-bit number of |n|
 * names an entry by its exponent and 4 bits of its mantissa, the other 11 bits are the way to the
 * next entry. So 0 to 32 have entries of their own, behind them every second number up to 64, every
 * fourth up to 128, every eighth up to 256; each sign has its half of the table.
 *
 * Ref: docs/hardware/etnaviv.md sections 5.5, 8.3
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>

#define BYTES 256
#define ENTRIES 1024
#define HALF 512
#define KNOTS 81 /* 0 to 32, then sixteen each up to 64, 128 and 256 */
#define STEPS 8  /* numbers of the longest segment */
#define FAR 512.0
#define CLOSE 1e-9

struct bounds {
    double low, high;
};

/* One half of a table: knot k stands at number at[k]. */
struct half {
    int at[KNOTS], last;
    struct bounds knot[KNOTS];               /* what is left to each, of those before it too */
    struct bounds between[KNOTS][STEPS - 1]; /* of the numbers behind each */
};

static int
knot_at(int k)
{
    const int octave = k <= 32 ? 0 : (k - 33) / 16 + 1;
    return octave ? (32 << (octave - 1)) + ((k - 33) % 16 + 1) * (1 << octave) : k;
}

static int
entry_of(int number)
{
    int exponent = 0;
    if (!number)
        return 0;
    while (number >> (exponent + 1))
        exponent++;
    return (exponent + 15) << 4 | ((number << 4 >> exponent) & 15);
}

static void
prepare(struct half *h, const double *low, const double *high, int zero, int sign)
{
    const int most = sign > 0 ? BYTES - 1 - zero : zero;
    for (int k = 0; k < KNOTS; k++) {
        h->at[k] = knot_at(k);
        h->last = h->at[k] > most && (!k || h->at[k - 1] >= most) ? h->last : k;
    }
    for (int k = 0; k <= h->last; k++) {
        const int next = k < h->last ? h->at[k + 1] : h->at[k] + 1;
        for (int n = h->at[k]; n < next; n++) {
            struct bounds *b = n == h->at[k] ? &h->knot[k] : &h->between[k][n - h->at[k] - 1];
            *b = n > most ? (struct bounds){-FAR, FAR}
                          : (struct bounds){low[zero + sign * n], high[zero + sign * n]};
        }
    }
}

/* The two lines of bounds on knot k, over the value of knot k + 1: a - b * value each. */
static int
lines(const struct half *h, int k, double line[2][STEPS][2])
{
    const int step = h->at[k + 1] - h->at[k];
    line[0][0][0] = h->knot[k].low;
    line[1][0][0] = h->knot[k].high;
    line[0][0][1] = line[1][0][1] = 0;
    for (int j = 1; j < step; j++) {
        const double t = (double)j / step;
        line[0][j][0] = h->between[k][j - 1].low / (1 - t);
        line[1][j][0] = h->between[k][j - 1].high / (1 - t);
        line[0][j][1] = line[1][j][1] = t / (1 - t);
    }
    return step;
}

/* Narrows knot k + 1 to values for which knot k has one: the bounds of each pair of lines. */
static int
narrow(struct half *h, int k)
{
    double line[2][STEPS][2];
    const int count = lines(h, k, line);
    struct bounds *next = &h->knot[k + 1];
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++) {
            const double gap = line[1][j][0] - line[0][i][0];
            const double slope = line[1][j][1] - line[0][i][1];
            if (slope > CLOSE)
                next->high = fmin(next->high, gap / slope);
            else if (slope < -CLOSE)
                next->low = fmax(next->low, gap / slope);
            else if (gap < -CLOSE)
                return 0;
        }
    return next->low <= next->high + CLOSE;
}

static double
nearest(double wanted, double low, double high)
{
    return low > high ? (low + high) / 2 : fmin(fmax(wanted, low), high);
}

/* Writes one half's entries, as near to `wanted` as they can be; 0, or the number, not 0, behind
 * which no value is left: 0 and 1 have entries of their own. */
static int
fit_half(struct half *h, const double *wanted, int zero, int sign, double *entries)
{
    int k = 0;
    double value;
    for (; k < h->last; k++)
        if (!narrow(h, k))
            return h->at[k] ? h->at[k] : 1;
    int x = zero + sign * h->at[k];
    x = x < 0 ? 0 : x >= BYTES ? BYTES - 1 : x;
    value = nearest(wanted[x], h->knot[k].low, h->knot[k].high);
    for (;;) {
        entries[entry_of(h->at[k])] = value;
        if (!k--)
            return 0;
        double line[2][STEPS][2], low = -FAR, high = FAR;
        const int count = lines(h, k, line);
        for (int j = 0; j < count; j++) {
            low = fmax(low, line[0][j][0] - line[0][j][1] * value);
            high = fmin(high, line[1][j][0] - line[1][j][1] * value);
        }
        value = nearest(wanted[zero + sign * h->at[k]], low, high);
    }
}

static PyObject *
fit(PyObject *self, PyObject *args)
{
    Py_buffer low, high, wanted;
    int zero;
    PyObject *found = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*i", &low, &high, &wanted, &zero))
        return NULL;
    const Py_ssize_t size = BYTES * (Py_ssize_t)sizeof(double);
    if (low.len != size || high.len != size || wanted.len != size || zero < 0 || zero >= BYTES) {
        PyErr_SetString(PyExc_ValueError, "bounds have another size, must be of 256 numbers each");
    } else {
        double entries[ENTRIES] = {0};
        int failed = 0;
        for (int sign = 1; sign >= -1 && !failed; sign -= 2) {
            struct half h = {.last = 0};
            prepare(&h, low.buf, high.buf, zero, sign);
            failed = sign * fit_half(&h, wanted.buf, zero, sign, entries + (sign < 0) * HALF);
        }
        found = failed ? PyLong_FromLong(failed)
                       : PyBytes_FromStringAndSize((const char *)entries, sizeof entries);
    }
    PyBuffer_Release(&low);
    PyBuffer_Release(&high);
    PyBuffer_Release(&wanted);
    return found;
}

static PyMethodDef methods[] = {
    {"fit", fit, METH_VARARGS,
     "(lows, highs, wanted: 256 doubles each; zero): 1024 doubles, or the number where none fits."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_knots", "Knots of the TP cores' lookup tables.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__knots(void)
{
    return PyModule_Create(&module);
}
