/* Decoders of the coefficient streams, as the simulated NN cores read them.
 *
 * Ref: docs/hardware/etnaviv.md sections 7.1, 7.2 (V7), 7.5 (V8)
 *
 * Written from the description of the format, not from the encoder: shares no code with coefs.c. Everything read is bounded by the buffer; a stream that ends early is an error.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LITTLE_ENDIAN_HOST 1
#else
#define LITTLE_ENDIAN_HOST 0
#endif

struct reader {
    const uint8_t *bytes;
    uint64_t size; /* in bits */
    uint64_t at;
    int overrun;
};

static uint32_t take(struct reader *in, unsigned width)
{
    uint64_t gathered = 0;
    uint64_t byte = in->at >> 3;
    unsigned skip = in->at & 7;
    if (in->at + width > in->size) {
        in->overrun = 1;
        return 0;
    }
    if (LITTLE_ENDIAN_HOST && (byte + sizeof gathered) * 8 <= in->size)
        memcpy(&gathered, in->bytes + byte, sizeof gathered);
    else
        for (unsigned i = 0; i * 8 < width + skip; i++)
            gathered |= (uint64_t)in->bytes[byte + i] << (8 * i);
    in->at += width;
    return (uint32_t)(gathered >> skip & (((uint64_t)1 << width) - 1));
}

/* Where the reader of a V7 core's stream is: zero weights that are still to come, then one value. */
struct v7 {
    struct reader in;
    unsigned run_bits;
    unsigned zero;
    unsigned owed;
    int value_waits;
    uint8_t value;
    int crossed; /* a run went across a raw word */
};

static uint8_t v7_weight(struct v7 *s)
{
    if (!s->owed && !s->value_waits) {
        s->owed = take(&s->in, s->run_bits);
        s->value = (uint8_t)take(&s->in, 8);
        s->value_waits = 1;
    }
    if (s->owed) {
        s->owed--;
        return (uint8_t)s->zero;
    }
    s->value_waits = 0;
    return s->value;
}

static uint32_t v7_word(struct v7 *s)
{
    if (s->owed || s->value_waits)
        s->crossed = 1;
    return take(&s->in, 32);
}

struct v7_job {
    uint8_t *weights; /* [kernels][planes][taps]; with `only` [kernels][taps] */
    uint32_t *words;  /* [kernels][2]: bias, then the word at the end */
    int32_t *only;    /* [kernels]: the plane whose weights are kept, -1 for none yet; or NULL */
    uint8_t *plane;   /* [taps], with `only` */
    const uint16_t *place;
    Py_ssize_t planes, taps, kernels, at_once;
    int by_six;
    int crowded; /* a kernel has weights in a second plane */
};

/* Keeps a plane that has weights, if it is its kernel's first one. */
static void v7_keep(struct v7_job *j, Py_ssize_t kernel, Py_ssize_t plane)
{
    j->crowded |= j->only[kernel] >= 0;
    j->only[kernel] = (int32_t)plane;
    memcpy(j->weights + kernel * j->taps, j->plane, (size_t)j->taps);
}

/* Puts a weight into the current plane, which is made when its first weight comes. */
static int v7_put(const struct v7 *s, struct v7_job *j, Py_ssize_t i, uint8_t weight, int found)
{
    if (weight == s->zero)
        return found;
    if (!found)
        memset(j->plane, (int)s->zero, (size_t)j->taps);
    j->plane[j->place[i]] = weight;
    return 1;
}

/* A plane that may be all zero points: run by run. */
static void v7_sparse(struct v7 *s, struct v7_job *j, Py_ssize_t kernel, Py_ssize_t plane)
{
    int found = 0;
    Py_ssize_t i = 0;
    if (plane == 0) {
        found = v7_put(s, j, i++, v7_weight(s), found);
        j->words[2 * kernel] = v7_word(s);
    }
    while (i < j->taps) {
        if (s->owed >= j->taps - i) {
            s->owed -= (unsigned)(j->taps - i);
            break;
        }
        i += s->owed;
        s->owed = 0;
        found = v7_put(s, j, i++, v7_weight(s), found);
    }
    if (found)
        v7_keep(j, kernel, plane);
}

static void v7_channel(struct v7 *s, struct v7_job *j, Py_ssize_t kernel, Py_ssize_t plane)
{
    if (j->only) {
        v7_sparse(s, j, kernel, plane);
    } else {
        uint8_t *to = j->weights + (kernel * j->planes + plane) * j->taps;
        for (Py_ssize_t i = 0; i < j->taps; i++) {
            to[j->place[i]] = v7_weight(s);
            if (plane == 0 && i == 0)
                j->words[2 * kernel] = v7_word(s);
        }
    }
    if (plane == j->planes - 1)
        j->words[2 * kernel + 1] = v7_word(s);
}

static void v7_core(struct v7 *s, struct v7_job *j)
{
    Py_ssize_t step = j->by_six ? 6 : 1;
    for (Py_ssize_t first = 0, end; first < j->kernels; first = end) {
        end = j->kernels - first > j->at_once ? first + j->at_once : j->kernels;
        for (Py_ssize_t plane = 0; plane < j->planes && !s->in.overrun && !j->crowded;
             plane += step)
            for (Py_ssize_t k = first; k < end; k++)
                for (Py_ssize_t p = plane; p < plane + step && p < j->planes; p++)
                    v7_channel(s, j, k, p);
    }
}

static const char *v7_run(const Py_buffer *stream, struct v7_job *j, unsigned zero, uint64_t *used)
{
    struct v7 s = {.in = {stream->buf, (uint64_t)stream->len * 8, 0, 0}, .zero = zero};
    s.run_bits = take(&s.in, 8);
    uint32_t kernels = take(&s.in, 16);
    if (s.in.overrun || s.run_bits > 8)
        return "the width of its zero-run field is not 0..8";
    if (kernels != (uint32_t)j->kernels)
        return "its number of kernels is not what the instruction says";
    v7_core(&s, j);
    *used = s.in.at;
    if (j->crowded)
        return NULL;
    if (s.in.overrun)
        return "it ends before its kernels do";
    if (s.crossed)
        return "a zero run goes across a bias or an offset";
    return NULL;
}

static int v7_fits(const struct v7_job *j, const Py_buffer *place, const Py_buffer *weights,
                   const Py_buffer *words, const Py_buffer *only)
{
    /* Divided, since the product of sizes that do not fit may not fit 64 bits either. */
    int fits = j->kernels > 0 && j->planes > 0 && j->taps > 0 && j->at_once > 0
               && j->kernels <= words->len / 8 && j->taps <= place->len / 2
               && (only->obj ? 1 : j->planes) <= weights->len / j->kernels / j->taps
               && (!only->obj || j->kernels <= only->len / 4);
    for (Py_ssize_t i = 0; fits && i < j->taps; i++)
        fits = j->place[i] < j->taps;
    return fits;
}

static PyObject *v7_decode(PyObject *self, PyObject *args)
{
    Py_buffer stream, place, weights, words, only = {0};
    struct v7_job j = {0};
    unsigned zero;
    uint64_t used = 0;
    const char *problem = "sizes of the buffers disagree";
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*w*nnnnpI|w*", &stream, &place, &weights, &words, &j.kernels,
                          &j.planes, &j.taps, &j.at_once, &j.by_six, &zero, &only))
        return NULL;
    j.weights = weights.buf;
    j.words = words.buf;
    j.place = place.buf;
    j.only = only.buf;
    if (v7_fits(&j, &place, &weights, &words, &only)) {
        j.plane = PyMem_RawMalloc((size_t)j.taps);
        problem = "no memory for a plane";
    }
    if (j.plane) {
        Py_BEGIN_ALLOW_THREADS
        problem = v7_run(&stream, &j, zero, &used);
        Py_END_ALLOW_THREADS
    }
    PyMem_RawFree(j.plane);
    PyBuffer_Release(&stream);
    PyBuffer_Release(&place);
    PyBuffer_Release(&weights);
    PyBuffer_Release(&words);
    if (only.obj)
        PyBuffer_Release(&only);
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(j.crowded ? 0 : used);
}

/* One value on its way through the three stages of the V8 decoder. */
struct v8_value {
    unsigned symbol;
    unsigned payload; /* bits known so far */
    unsigned known;   /* how many */
    int second;       /* a second part follows */
};

static struct v8_value v8_first(struct reader *in)
{
    unsigned code = take(in, 3), low = code & 3, high = code >> 2;
    if (low < 2)
        return (struct v8_value){low, high, 1, 0};
    if (low == 2 && !high)
        return (struct v8_value){0, 0, 0, 1};
    return (struct v8_value){low == 2 ? 4 : high ? 2 : 3, 0, 0, 0};
}

static void v8_second(struct reader *in, struct v8_value *v)
{
    unsigned code;
    if (!v->second)
        return;
    code = take(in, 2);
    if (code & 1) {
        v->symbol = 5;
        v->payload = code >> 1;
        v->known = 1;
    } else {
        v->symbol = code ? 6 : 7;
    }
}

static uint8_t v8_third(struct reader *in, const struct v8_value *v, const uint8_t *lengths)
{
    unsigned length = lengths[v->symbol], bits = length ? length : 1;
    unsigned payload = v->payload | take(in, bits - v->known) << v->known;
    unsigned magnitude = length ? payload >> 1 | 1u << (length - 1) : 0;
    return (uint8_t)(payload & 1 ? ~magnitude : magnitude);
}

static const char *v8_run(struct reader *in, const uint8_t *lengths, uint8_t *out, Py_ssize_t count)
{
    struct v8_value stage[3][2];
    Py_ssize_t pairs = (count + 1) / 2;
    memset(stage, 0, sizeof stage);
    for (Py_ssize_t t = 0; t < pairs + 2; t++) {
        for (int i = 0; i < 2; i++)
            stage[t % 3][i] = v8_first(in);
        for (int i = 0; i < 2 && t >= 1 && t <= pairs; i++)
            v8_second(in, &stage[(t + 2) % 3][i]);
        for (int i = 0; i < 2 && t >= 2; i++) {
            uint8_t value = v8_third(in, &stage[(t + 1) % 3][i], lengths);
            if (2 * (t - 2) + i < count)
                out[2 * (t - 2) + i] = value;
        }
    }
    if (in->overrun)
        return "it ends before its values do";
    return in->at == in->size ? NULL : "it is longer than its values";
}

static PyObject *v8_decode(PyObject *self, PyObject *args)
{
    Py_buffer stream, lengths;
    Py_ssize_t bits, count;
    const char *problem = NULL;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*nn", &stream, &lengths, &bits, &count))
        return NULL;
    if (bits < 0 || (bits + 7) / 8 > stream.len || count < 0 || lengths.len != 8)
        problem = "its size is beyond the buffer";
    for (int v = 0; !problem && v < 8; v++)
        if (((const uint8_t *)lengths.buf)[v] > 7)
            problem = "a symbol stands for more than 7 bits";
    if (problem)
        result = NULL;
    else
        result = PyBytes_FromStringAndSize(NULL, count);
    if (result) {
        struct reader in = {stream.buf, (uint64_t)bits, 0, 0};
        uint8_t *out = (uint8_t *)PyBytes_AS_STRING(result);
        Py_BEGIN_ALLOW_THREADS
        problem = v8_run(&in, lengths.buf, out, count);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&stream);
    PyBuffer_Release(&lengths);
    if (problem) {
        Py_CLEAR(result);
        PyErr_SetString(PyExc_ValueError, problem);
    }
    return result;
}

#define DIGEST_LANES 4

/* Mixes 32 bytes into four lanes. Each step can be undone, for the lane and for the word that it
 * reads, so a change of one word always changes the result. */
static void digest_block(uint64_t lane[DIGEST_LANES], const uint8_t *bytes)
{
    uint64_t words[DIGEST_LANES];
    memcpy(words, bytes, sizeof words);
    for (int i = 0; i < DIGEST_LANES; i++) {
        lane[i] += words[i] * 0x9e3779b97f4a7c15u;
        lane[i] = (lane[i] << 31 | lane[i] >> 33) * 0xd1342543de82ef95u;
    }
}

static PyObject *digest(PyObject *self, PyObject *args)
{
    Py_buffer data;
    uint64_t lane[DIGEST_LANES] = {1, 2, 3, 4};
    uint8_t rest[8 * DIGEST_LANES] = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
    const uint8_t *bytes = data.buf;
    size_t size = (size_t)data.len, at = 0;
    Py_BEGIN_ALLOW_THREADS
    for (; at + sizeof rest <= size; at += sizeof rest)
        digest_block(lane, bytes + at);
    memcpy(rest, bytes + at, size - at);
    digest_block(lane, rest);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return PyBytes_FromStringAndSize((const char *)lane, sizeof lane);
}

static PyMethodDef methods[] = {
    {"v7_decode", v7_decode, METH_VARARGS, "Read one core's V7 stream."},
    {"v8_decode", v8_decode, METH_VARARGS, "The values of one core's V8 stream."},
    {"digest", digest, METH_VARARGS, "32 bytes that differ where buffers of a size differ."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_units", "Stream decoders of the simulated NPU.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__units(void)
{
    return PyModule_Create(&module);
}
