/* DPU: from 16 accumulators to 16 bytes, in 32 bits wherever nothing is scaled; see rich.h. */
#ifndef ROCKET_POST_H
#define ROCKET_POST_H

#include "cube.h"
#include "rich.h"
#include "windows.h"

typedef struct {
    double clip;           /* 2^-t on the accumulator; 1: none */
    int add;               /* after the multipliers */
    int low, high;         /* after BS and BN, as one clamp */
    int low_ew, high_ew;   /* after EW */
    double scale;          /* output multiplier / 2^shift */
    int offset;
    int pend;              /* lanes beyond the last channel */
} Stages;

typedef struct {
    Stages stages;
    const int32_t *bias;
    const double *factors; /* of BS, 2^-shift included; may be NULL */
    const int32_t *table;  /* of operands from -128 on; NULL without EW */
    Cube operand, out;
    Py_ssize_t channels;
    const Rich *rich; /* NULL: `stages` and `factors` say all */
    double *worst;    /* with `rich`: the largest magnitude of a value between its stages */
    Rich rich_stages;
    Py_buffer views[7]; /* bias, factors, operand, table, out, numbers, entries */
} Post;

/* v times a factor, rounded; the product fits 51 bits and the result 32. */
INLINE int32_t
scaled(int32_t v, double factor)
{
    const double sum = v * factor + MAGIC;
    int64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return (int32_t)bits;
}

INLINE int32_t
clamped(int32_t v, int32_t low, int32_t high)
{
    v = v > low ? v : low;
    return v < high ? v : high;
}

/* Modulo 2^32: the caller sees to it that sums fit. */
INLINE int32_t
plus(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* BS and BN of some atoms, in place. */
INLINE void
channel_stages(const Stages *s, const int32_t *bias, const double *factors, int count,
               int32_t (*v)[ATOM])
{
    const int32_t low = s->low, high = s->high, add = s->add;
    if (s->clip != 1.0)
        for (int r = 0; r < count; r++)
            for (int k = 0; k < ATOM; k++)
                v[r][k] = scaled(v[r][k], s->clip);
    if (factors)
        for (int r = 0; r < count; r++)
            for (int k = 0; k < ATOM; k++)
                v[r][k] = clamped(plus(scaled(plus(v[r][k], bias[k]), factors[k]), add), low, high);
    else
        for (int r = 0; r < count; r++)
            for (int k = 0; k < ATOM; k++)
                v[r][k] = clamped(plus(v[r][k], bias[k]), low, high);
}

/* EW on `count` values. */
INLINE void
add_operand(const Stages *s, const int8_t *operand, const int32_t *table, int count, int32_t *v)
{
    for (int i = 0; i < count; i++)
        v[i] = plus(v[i], table[operand[i] + 128]);
    for (int i = 0; i < count; i++)
        v[i] = clamped(v[i], s->low_ew, s->high_ew);
}

/* The output converter on `count` values. */
INLINE void
convert_output(const Stages *s, int count, int32_t *v, int8_t *out)
{
    const double scale = s->scale;
    const int32_t offset = s->offset;
    for (int i = 0; i < count; i++)
        v[i] = clamped(plus(scaled(v[i], scale), offset), -128, 127);
    for (int i = 0; i < count; i++)
        out[i] = (int8_t)v[i];
}

/* The same for the stages in floating point; `operand` is NULL without EW. */
INLINE void
rich_pixels(const Post *post, Py_ssize_t u, int count, const int8_t *operand,
            int32_t (*sums)[LANES], int8_t *out)
{
    const Stages *s = &post->stages;
    const Rich *rich = post->rich;
    const double scale = s->scale, offset = s->offset, low = s->low_ew, high = s->high_ew;
    double worst[ATOM] = {0}, v[TILE][ATOM];
    for (int r = 0; r < count; r++)
        rich_stages(rich, s->clip, post->bias + u * ATOM, u * ATOM, sums[r], v[r], worst);
    if (rich->entries)
        rich_table(rich, count, v, worst);
    for (int r = 0; operand && r < count; r++)
        rich_operand(rich, operand + r * ATOM, post->table, v[r], worst);
    for (int r = 0; r < count; r++) {
        int32_t made[ATOM];
        for (int k = 0; k < ATOM; k++)
            made[k] = (int32_t)limited(whole(limited(v[r][k], low, high) * scale) + offset, -128, 127);
        for (int k = 0; k < ATOM; k++)
            out[r * ATOM + k] = (int8_t)made[k];
    }
    for (int k = 0; k < ATOM; k++)
        *post->worst = larger(*post->worst, worst[k]);
}

/* `count` pixels of surface u, from pixel `first` of the whole output on. */
INLINE void
post_pixels(const Post *post, Py_ssize_t u, Py_ssize_t first, int count, int32_t (*sums)[LANES])
{
    const Stages *s = &post->stages;
    int8_t *out = (int8_t *)post->out.data + u * post->out.surface + first * ATOM;
    const int8_t *operand =
        post->table ? (const int8_t *)post->operand.data + u * post->operand.surface + first * ATOM
                    : NULL;
    if (post->rich) {
        rich_pixels(post, u, count, operand, sums, out);
    } else {
        channel_stages(s, post->bias + u * ATOM, post->factors ? post->factors + u * ATOM : NULL,
                       count, sums);
        if (operand)
            add_operand(s, operand, post->table, count * ATOM, sums[0]);
        convert_output(s, count * ATOM, sums[0], out);
    }
    const Py_ssize_t lanes = post->channels - u * ATOM;
    for (int r = 0; lanes < ATOM && r < count; r++)
        memset(out + r * ATOM + lanes, s->pend, (size_t)(ATOM - lanes));
}

#endif
