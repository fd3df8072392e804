/* Between NHWC images of bytes and surfaces of 16 channels (NC1HWC2).
 *
 * Plain buffers in and out, whose lengths are checked.  The numpy twins are in
 * drivers/common/teflon_common/layout.py and must agree exactly.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define LANES 16

static int
is_short(const Py_buffer *image, const Py_buffer *raw, Py_ssize_t pixels, Py_ssize_t channels,
         Py_ssize_t pitch)
{
    Py_ssize_t surfaces, size;
    if (pixels < 0 || channels < 1 || channels > PY_SSIZE_T_MAX - LANES || pitch < pixels ||
        pitch > PY_SSIZE_T_MAX / LANES / (channels + LANES)) {
        PyErr_Format(PyExc_ValueError, "image: has %zd pixels of %zd channels, a surface %zd pixels",
                     pixels, channels, pitch);
        return 1;
    }
    surfaces = (channels + LANES - 1) / LANES;
    size = ((surfaces - 1) * pitch + pixels) * LANES;
    if (image->len < pixels * channels || raw->len < size) {
        PyErr_Format(PyExc_ValueError, "image: has %zd bytes and surfaces %zd, must be %zd and %zd",
                     image->len, raw->len, pixels * channels, size);
        return 1;
    }
    return 0;
}

/* The last surface of an image: `count` channels and the fill; a constant count makes it fast. */
static inline __attribute__((always_inline)) void
spread_rest(const uint8_t *from, uint8_t *raw, Py_ssize_t pixels, Py_ssize_t channels, int count,
            uint8_t flip, uint8_t fill)
{
    uint8_t atom[LANES];
    memset(atom, fill, LANES);
    for (Py_ssize_t p = 0; p < pixels; p++, raw += LANES, from += channels) {
        memcpy(raw, atom, LANES);
        for (int k = 0; k < count; k++)
            raw[k] = from[k] ^ flip;
    }
}

static void
spread(const uint8_t *image, uint8_t *raw, Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t pitch,
       uint8_t flip, uint8_t fill)
{
    for (Py_ssize_t first = 0; first < channels; first += LANES) {
        const uint8_t *from = image + first;
        int count = channels - first < LANES ? (int)(channels - first) : LANES;
        if (count == 3) /* pictures */
            spread_rest(from, raw, pixels, channels, 3, flip, fill);
        else if (count < LANES)
            spread_rest(from, raw, pixels, channels, count, flip, fill);
        else
            for (Py_ssize_t p = 0; p < pixels; p++)
                for (int k = 0; k < LANES; k++)
                    raw[p * LANES + k] = from[p * channels + k] ^ flip;
        raw += pitch * LANES;
    }
}

static void
collect(uint8_t *image, const uint8_t *raw, Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t pitch,
        uint8_t flip)
{
    for (Py_ssize_t first = 0; first < channels; first += LANES) {
        Py_ssize_t count = channels - first < LANES ? channels - first : LANES;
        for (Py_ssize_t p = 0; p < pixels; p++, raw += LANES) {
            uint8_t *to = image + p * channels + first;
            if (count == LANES)
                for (int k = 0; k < LANES; k++)
                    to[k] = raw[k] ^ flip;
            else
                for (Py_ssize_t k = 0; k < count; k++)
                    to[k] = raw[k] ^ flip;
        }
        raw += (pitch - pixels) * LANES;
    }
}

static PyObject *
to_surfaces(PyObject *self, PyObject *args)
{
    Py_buffer image, raw;
    Py_ssize_t pixels, channels, pitch;
    unsigned char flip, fill;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*w*nnnbb", &image, &raw, &pixels, &channels, &pitch, &flip, &fill))
        return NULL;
    int bad = is_short(&image, &raw, pixels, channels, pitch);
    if (!bad) {
        Py_BEGIN_ALLOW_THREADS
        spread(image.buf, raw.buf, pixels, channels, pitch, flip, fill);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&image);
    PyBuffer_Release(&raw);
    if (bad)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
from_surfaces(PyObject *self, PyObject *args)
{
    Py_buffer image, raw;
    Py_ssize_t pixels, channels, pitch;
    unsigned char flip;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*y*nnnb", &image, &raw, &pixels, &channels, &pitch, &flip))
        return NULL;
    int bad = is_short(&image, &raw, pixels, channels, pitch);
    if (!bad) {
        Py_BEGIN_ALLOW_THREADS
        collect(image.buf, raw.buf, pixels, channels, pitch, flip);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&image);
    PyBuffer_Release(&raw);
    if (bad)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"to_surfaces", to_surfaces, METH_VARARGS, "(image, raw, pixels, channels, pitch, flip, fill)"},
    {"from_surfaces", from_surfaces, METH_VARARGS, "(image, raw, pixels, channels, pitch, flip)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_layout", "Layouts of feature maps.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__layout(void)
{
    return PyModule_Create(&module);
}
