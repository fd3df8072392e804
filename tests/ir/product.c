/* The loops of native/product.h for test_product.py, which calls them one by one. */
#include "product.h"

int
fast_is_here(void)
{
    return HAVE_AVX2 != 0;
}

void
multiply(int fast, const int16_t *image, const ptrdiff_t *pixels, int count, const ptrdiff_t *taps,
         ptrdiff_t tap_count, ptrdiff_t depth, const int16_t *panel, int32_t *out)
{
    const int16_t *at[TILE];
    for (int r = 0; r < count; r++)
        at[r] = image + pixels[r];
    const Taps windows = {taps, tap_count, depth};
    (fast ? best_product() : product_plain)(at, count, &windows, panel, (int32_t(*)[LANES])out);
}
