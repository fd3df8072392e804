/* From the sums of the simulated NN cores to bytes: multiply, shift with halves to even, relu, zero
 * point, clamp.
 *
 * Ref: docs/hardware/etnaviv.md section 8.2
 */
#include <math.h>
#include <stdint.h>

#include "product.h"

/* Rounds to the nearest integer, ties to even, for |x| < 2^51: one exact sum, rounded once by the
 * default mode of the floating point unit. */
#define MAGIC 6755399441055744.0
#define FAR 1024 /* a rounded value beyond it ends at 0 or 255 whatever the zero point is */
#define STEEP 65536 /* products by larger factors do not fit what MAGIC rounds to 32 bits */

struct scale {
    long long multiplier;
    int shift, relu, zero, small; /* small: no sum * multiplier reaches 2^53 */
    int32_t low, high;            /* sums beyond them end as these do */
    double factor;
};

/* Works out the rest from the first five numbers; 0 where they are out of range. */
static int
set_scale(struct scale *s)
{
    if (s->multiplier < 1 || s->multiplier >= 1 << 24 || s->shift <= -64 || s->shift >= 128 ||
        s->zero < 0 || s->zero > 255)
        return 0;
    s->factor = ldexp((double)s->multiplier, -s->shift);
    const double far = ceil(FAR / s->factor);
    const int all = far >= INT32_MAX; /* every sum counts, also the one that has no negative */
    s->high = all ? INT32_MAX : (int32_t)far;
    s->low = s->relu ? 0 : all ? INT32_MIN : -s->high;
    s->small = s->small && s->factor < STEEP;
    return 1;
}

static uint8_t
exact_byte(int32_t sum, const struct scale *s)
{
    int64_t product = (int64_t)sum * s->multiplier, value = 0;
    if (s->shift <= 0) {
        value = product < -FAR ? -FAR : product > FAR ? FAR : product;
        value *= (int64_t)1 << (-s->shift < 40 ? -s->shift : 40);
    } else if (s->shift <= 62) {
        const int64_t one = (int64_t)1 << s->shift, half = one / 2;
        const int64_t rest = product & (one - 1);
        value = (product - rest) / one;
        value += rest > half || (rest == half && (value & 1));
    }
    value = (s->relu && value < 0 ? 0 : value) + s->zero;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

INLINE int32_t
wrapped(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

typedef void (*rescaler)(const int32_t *, int32_t, uint8_t *, const struct scale *);

INLINE void
bytes_plain(const int32_t *restrict sums, int32_t bias, uint8_t *restrict bytes,
            const struct scale *s)
{
    const double factor = s->factor;
    const int32_t zero = s->zero, low = s->low, high = s->high;
    if (!s->small) {
        for (int i = 0; i < LANES; i++)
            bytes[i] = exact_byte(wrapped(sums[i], bias), s);
        return;
    }
#pragma GCC unroll 1 /* else it is unrolled before it can become vectors */
    for (int i = 0; i < LANES; i++) {
        int32_t sum = wrapped(sums[i], bias);
        sum = sum < low ? low : sum;
        sum = sum > high ? high : sum;
        int32_t whole = (int32_t)((sum * factor + MAGIC) - MAGIC) + zero;
        whole = whole < 0 ? 0 : whole;
        bytes[i] = (uint8_t)(whole > 255 ? 255 : whole);
    }
}

#ifdef AVX2
/* Eight sums, scaled and rounded: what MAGIC leaves in the low half of a number is an integer. */
AVX2 INLINE __m256i
round_avx2(__m256i sums, const struct scale *s)
{
    const __m256d factor = _mm256_set1_pd(s->factor), magic = _mm256_set1_pd(MAGIC);
    sums = _mm256_max_epi32(sums, _mm256_set1_epi32(s->low));
    sums = _mm256_min_epi32(sums, _mm256_set1_epi32(s->high));
    const __m256d low = _mm256_cvtepi32_pd(_mm256_castsi256_si128(sums));
    const __m256d high = _mm256_cvtepi32_pd(_mm256_extracti128_si256(sums, 1));
    const __m256 a = _mm256_castpd_ps(_mm256_add_pd(_mm256_mul_pd(low, factor), magic));
    const __m256 b = _mm256_castpd_ps(_mm256_add_pd(_mm256_mul_pd(high, factor), magic));
    /* 0 1 4 5 2 3 6 7: put in order when they are bytes */
    const __m256i whole = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
    return _mm256_add_epi32(whole, _mm256_set1_epi32(s->zero));
}

AVX2 INLINE void
bytes_avx2(const int32_t *sums, int32_t bias, uint8_t *bytes, const struct scale *s)
{
    if (!s->small) {
        bytes_plain(sums, bias, bytes, s);
        return;
    }
    const __m256i add = _mm256_set1_epi32(bias);
    const __m256i *from = (const __m256i *)sums;
    const __m256i a = round_avx2(_mm256_add_epi32(_mm256_loadu_si256(from), add), s);
    const __m256i b = round_avx2(_mm256_add_epi32(_mm256_loadu_si256(from + 1), add), s);
    /* halves of 128 bits: a 0 1 4 5, b 0 1 4 5 and a 2 3 6 7, b 2 3 6 7 */
    const __m256i words = _mm256_packs_epi32(a, b);
    const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(words),
                                            _mm256_extracti128_si256(words, 1));
    const __m128i order = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    _mm_storeu_si128((__m128i *)bytes, _mm_shuffle_epi8(packed, order));
}
#endif
