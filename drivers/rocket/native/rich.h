/* DPU: all of its stages, in floating point. Every number is an integer, or a product before it is
 * rounded, that 53 bits hold: results are exact. Used where 32-bit integers do not do. */
#ifndef ROCKET_RICH_H
#define ROCKET_RICH_H

#include "cube.h"
#include "windows.h"

/* Rounds to the nearest integer, ties to even, for |x| < 2^51: one exact sum, rounded once by the
 * default mode of the floating point unit; the integer is then in the number's low bits. */
#define MAGIC 6755399441055744.0

#define ENTRIES 513
#define STEP 5          /* log2 of the distance of two entries */
#define END (1 << 14)   /* the tables cover -END to 0 and 0 to END */
#define REACH 2147483647.0

enum { ADD, SUBTRACT, MAXIMUM, MINIMUM, MULTIPLY };

typedef struct {
    const double *numbers; /* [5][lanes]: factors of BS (v >= 0, v < 0) and of BN, what BN adds */
    Py_ssize_t lanes;
    const int32_t *entries; /* of both tables; may be NULL */
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
    return v < 0 ? -v : v;
}

/* BS and BN of an atom: from sums to `v`; `worst` takes the largest magnitude on the way. */
INLINE void
rich_stages(const Rich *r, double clip, const int32_t *bias, Py_ssize_t at, const int32_t *sums,
            double *v, double *worst)
{
    const double *first = r->numbers + at, *first_below = first + r->lanes;
    const double *second = first_below + r->lanes, *second_below = second + r->lanes;
    const double *added = second_below + r->lanes;
    for (int k = 0; k < ATOM; k++) {
        double x = whole(sums[k] * clip) + bias[k];
        worst[k] = larger(worst[k], magnitude(x));
        x = whole(x * (x < 0 ? first_below[k] : first[k]));
        worst[k] = larger(worst[k], magnitude(x));
        x = limited(x, r->bs_low, r->bs_high);
        x = whole(x * (x < 0 ? second_below[k] : second[k]) + added[k]);
        worst[k] = larger(worst[k], magnitude(x));
        v[k] = limited(x, r->bn_low, r->bn_high);
    }
}

/* What the tables make of one value. */
INLINE double
look_up(const Rich *r, double v)
{
    const int t = (int)limited(v, -END, END), above = t >= 0;
    const int place = above ? t : t + END;
    const int index = place >> STEP < ENTRIES - 2 ? place >> STEP : ENTRIES - 2;
    const int32_t *entry = r->entries + (above ? ENTRIES : 0) + index;
    const int step = (entry[1] - entry[0]) * (place - (index << STEP));
    const int value = entry[0] + ((step + 15 + (step >> STEP & 1)) >> STEP);
    const double beyond = whole((v < -END ? v + END : 0) * r->below) +
                          whole((v > END ? v - END : 0) * r->above);
    return r->floor ? larger(value + beyond, 0) : value + beyond;
}

INLINE void
rich_table(const Rich *r, double *v, double *worst)
{
    for (int k = 0; k < ATOM; k++) {
        v[k] = look_up(r, v[k]);
        worst[k] = larger(worst[k], magnitude(v[k]));
    }
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
