/* DPU: all of its stages, in floating point. Every number is an integer, or a product before it is
 * rounded, that 53 bits hold: results are exact. Used where 32-bit integers do not do. */
#ifndef ROCKET_RICH_H
#define ROCKET_RICH_H

#include "cube.h"
#include "windows.h"

/* Rounds to the nearest integer, ties to even, for |x| < 2^51: one exact sum, rounded once by the
 * default mode of the floating point unit; the integer is then in the number's low bits. */
#define MAGIC 6755399441055744.0

#define END (1 << 14) /* the tables cover -END to 0 and 0 to END */
#define REACH 2147483647.0

enum { ADD, SUBTRACT, MAXIMUM, MINIMUM, MULTIPLY };

typedef struct {
    const double *numbers; /* [5][lanes]: factors of BS (v >= 0, v < 0) and of BN, what BN adds */
    Py_ssize_t lanes;
    const int16_t *entries; /* of both tables, for every number from -END to END; may be NULL */
    double bs_low, bs_high, bn_low, bn_high, below, above;
    int floor, operation;
} Rich;

INLINE double
whole(double v)
{
    return v + MAGIC - MAGIC;
}

INLINE double
limited(double v, double low, double high)
{
    v = v > low ? v : low;
    return v < high ? v : high;
}

INLINE double
larger(double a, double b)
{
    return a > b ? a : b;
}

INLINE double
magnitude(double v)
{
    return __builtin_fabs(v);
}

/* The factor of a value by its sign; both are read, so that the compiler need not branch. */
INLINE double
by_sign(double v, double above, double below)
{
    return v < 0 ? below : above;
}

/* BS and BN of an atom: from sums to `v`; `worst` takes the largest magnitude on the way. */
INLINE void
rich_stages(const Rich *r, double clip, const int32_t *bias, Py_ssize_t at, const int32_t *sums,
            double *v, double *worst)
{
    const double *first = r->numbers + at, *first_below = first + r->lanes;
    const double *second = first_below + r->lanes, *second_below = second + r->lanes;
    const double *added = second_below + r->lanes;
    const double bs_low = r->bs_low, bs_high = r->bs_high, bn_low = r->bn_low, bn_high = r->bn_high;
    for (int k = 0; k < ATOM; k++)
        v[k] = whole(sums[k] * clip) + bias[k];
    for (int k = 0; k < ATOM; k++) {
        const double first_factor = by_sign(v[k], first[k], first_below[k]);
        const double x = whole(v[k] * first_factor), y = limited(x, bs_low, bs_high);
        const double second_factor = by_sign(y, second[k], second_below[k]);
        const double z = whole(y * second_factor + added[k]);
        const double most = larger(magnitude(v[k]), larger(magnitude(x), magnitude(z)));
        worst[k] = larger(worst[k], most);
        v[k] = limited(z, bn_low, bn_high);
    }
}

/* What the tables make of some atoms: all look-ups first, whose results are then long in memory. */
INLINE void
rich_table(const Rich *r, int count, double (*v)[ATOM], double *worst)
{
    const int16_t *entries = r->entries + END;
    const double below = r->below, above = r->above, floor = r->floor ? 0 : -REACH * REACH;
    int32_t values[TILE * ATOM];
    double *flat = v[0];
    for (int i = 0; i < count * ATOM; i++)
        values[i] = (int32_t)limited(flat[i], -END, END);
    for (int i = 0; i < count * ATOM; i++)
        values[i] = entries[values[i]];
    for (int i = 0; i < count * ATOM; i++) {
        const double under = whole(limited(flat[i] + END, -REACH * REACH, 0) * below);
        const double over = whole(larger(flat[i] - END, 0) * above);
        flat[i] = larger(values[i] + under + over, floor);
    }
    for (int p = 0; p < count; p++)
        for (int k = 0; k < ATOM; k++)
            worst[k] = larger(worst[k], magnitude(v[p][k]));
}

/* EW of an atom, without its clamp. */
INLINE void
rich_operand(const Rich *r, const int8_t *operand, const int32_t *table, double *v, double *worst)
{
    double o[ATOM];
    for (int k = 0; k < ATOM; k++)
        o[k] = table[operand[k] + 128];
    switch (r->operation) {
    case SUBTRACT:
        for (int k = 0; k < ATOM; k++)
            v[k] -= o[k];
        break;
    case MAXIMUM:
        for (int k = 0; k < ATOM; k++)
            v[k] = larger(v[k], o[k]);
        break;
    case MINIMUM:
        for (int k = 0; k < ATOM; k++)
            v[k] = v[k] < o[k] ? v[k] : o[k];
        break;
    case MULTIPLY:
        for (int k = 0; k < ATOM; k++)
            v[k] *= o[k];
        break;
    default:
        for (int k = 0; k < ATOM; k++)
            v[k] += o[k];
    }
    for (int k = 0; k < ATOM; k++)
        worst[k] = larger(worst[k], magnitude(v[k]));
}

#endif
