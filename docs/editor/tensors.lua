---@meta _
-- SPDX-License-Identifier: MIT
--
-- tensors.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow
---@field optim moonbow.optim
---@field clip moonbow.clip
---@field threshold moonbow.threshold
---@field schedule moonbow.schedule
---@field models moonbow.models
---@field safetensors moonbow.safetensors
---@field checkpoint moonbow.checkpoint
---@field jsonl moonbow.jsonl
---@field system moonbow.system
---@field tensorboard moonbow.tensorboard
---@field data moonbow.data
---@field linalg moonbow.linalg
local mb = {}

--- The negative of a.
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.neg(a) end

--- |a|
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.abs(a) end

--- The sign of a: -1, 0 or 1.
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.sign(a) end

--- e^a
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.exp(a) end

--- The natural logarithm: of 0 it is -inf, of less NaN.
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.log(a) end

--- The square root; of a negative number NaN.
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.sqrt(a) end

--- 1 / sqrt(a)
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.rsqrt(a) end

--- a^2
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.square(a) end

--- 1 / a
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.reciprocal(a) end

--- tanh(a)
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.tanh(a) end

--- 1 / (1 + e^-a)
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.sigmoid(a) end

--- a sigmoid(a), also called swish (Elfwing, Uchibe, Doya 2017).
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.silu(a) end

--- max(a, 0)
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.relu(a) end

--- The other name of gelu_tanh.
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.gelu(a) end

--- GELU in GPT-2's form: a / 2 (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))) (Hendrycks, Gimpel 2016).
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.gelu_tanh(a) end

--- GELU: a Phi(a), Phi the normal distribution function. Of tensors alone.
---@param a moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.gelu_erf(a) end

--- a + b. Shapes are broadcast as NumPy does it, here and in all functions of two tensors: sizes are compared from the last
--- dimension on, and a size of 1 or a missing one is stretched. Both have one dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.add(a, b) end

--- a - b, broadcast.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.sub(a, b) end

--- a b, element by element, broadcast.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.mul(a, b) end

--- a / b, broadcast.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.div(a, b) end

--- a^b, broadcast.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.pow(a, b) end

--- The lesser of a and b, element by element.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.minimum(a, b) end

--- The greater of a and b, element by element.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.maximum(a, b) end

--- a < b, element by element: 1 or 0 in a's dtype. Operators of Lua cannot do that: `a < b` of tensors is an error.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.less(a, b) end

--- a <= b, element by element: 1 or 0 in a's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.less_equal(a, b) end

--- a > b, element by element: 1 or 0 in b's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.greater(a, b) end

--- a >= b, element by element: 1 or 0 in b's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.greater_equal(a, b) end

--- a == b, element by element: 1 or 0 in a's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.equal(a, b) end

--- a < b, element by element: 1 or 0 in a's dtype. Operators of Lua cannot do that: `a < b` of tensors is an error.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.lt(a, b) end

--- a <= b, element by element: 1 or 0 in a's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.le(a, b) end

--- a > b, element by element: 1 or 0 in b's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.gt(a, b) end

--- a >= b, element by element: 1 or 0 in b's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.ge(a, b) end

--- a == b, element by element: 1 or 0 in a's dtype.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.eq(a, b) end

--- condition ~= 0 and a or b, element by element; a and b may be numbers.
---@param condition moonbow.Tensor|number
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.where(condition, a, b) end

--- min(max(a, low), high); either bound may be nil.
---@param a moonbow.Tensor|number
---@param low? moonbow.Tensor|number
---@param high? moonbow.Tensor|number
---@return moonbow.Tensor|number
function mb.clamp(a, low, high) end

--- scale * a + shift
---@param a moonbow.Tensor
---@param scale number
---@param shift number
---@return moonbow.Tensor
function mb.affine(a, scale, shift) end

--- Sum over `dims`, a dimension or an array of them, or over all elements; keepdim leaves size 1 behind.
---@param a moonbow.Tensor
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function mb.sum(a, dims, keepdim) end

--- Mean over `dims`, or over all elements.
---@param a moonbow.Tensor
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function mb.mean(a, dims, keepdim) end

--- Largest element over `dims`, or of all.
---@param a moonbow.Tensor
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function mb.max(a, dims, keepdim) end

--- Smallest element over `dims`, or of all.
---@param a moonbow.Tensor
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function mb.min(a, dims, keepdim) end

--- Position of the largest element along `dim`, as data: counts from 0. Without dim, over all elements.
---@param a moonbow.Tensor
---@param dim? integer
---@param keepdim? boolean
---@return moonbow.Tensor positions i32
function mb.argmax(a, dim, keepdim) end

--- Euclidean norm of all elements, or along `dims`.
---@param a moonbow.Tensor
---@param dims? integer|integer[]
---@param keepdim? boolean
---@return moonbow.Tensor
function mb.norm(a, dims, keepdim) end

--- op(a) op(b) over the last two dimensions: (..., m, k) (..., k, n) -> (..., m, n).
---@param a moonbow.Tensor
---@param b moonbow.Tensor
---@param options? { transpose_a?: boolean, transpose_b?: boolean }
---@return moonbow.Tensor
function mb.matmul(a, b, options) end

--- x weight^T + bias: x (..., in), weight (out, in), bias (out) or nil -> (..., out)
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function mb.linear(x, weight, bias) end

--- linear(x, weight, bias) whose rows begin at multiples of 128 bytes (16 if they are short): a view, unless they do anyway. For
--- logits of a large odd vocabulary that go into a loss.
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function mb.linear_aligned(x, weight, bias) end

--- linear(gelu_tanh(x), weight, bias) in less memory: the backward computes gelu_tanh(x) again.
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function mb.gelu_linear(x, weight, bias) end

--- gelu_linear(linear(x, weight, bias), weight_out, bias_out): a network of one hidden layer, whose GELU is made where the first
--- product is. The backward computes GELU again, or takes what is kept of it.
---@param x moonbow.Tensor
---@param weight moonbow.Tensor (hidden, in)
---@param bias moonbow.Tensor|nil (hidden)
---@param weight_out moonbow.Tensor (out, hidden)
---@param bias_out? moonbow.Tensor (out)
---@param keep? boolean default false
---@return moonbow.Tensor
function mb.gelu_mlp(x, weight, bias, weight_out, bias_out, keep) end

--- Rows of a table: weight (V, C), ids any shape of integers, from 0 -> ids' shape x (C)
---@param weight moonbow.Tensor
---@param ids moonbow.Tensor
---@return moonbow.Tensor
function mb.embedding(weight, ids) end

--- Layer normalization over the last dimension (Ba, Kiros, Hinton 2016): weight (x - mean) / sqrt(variance + epsilon) + bias,
--- with weight and bias (C) or nil.
---@param x moonbow.Tensor (..., C)
---@param weight? moonbow.Tensor
---@param bias? moonbow.Tensor
---@param epsilon? number default 1e-5
---@return moonbow.Tensor
function mb.layernorm(x, weight, bias, epsilon) end

--- Root mean square normalization over the last dimension (Zhang, Sennrich 2019): weight x / sqrt(mean of x^2 + epsilon).
---@param x moonbow.Tensor (..., C)
---@param weight? moonbow.Tensor (C)
---@param epsilon? number default 1e-6
---@return moonbow.Tensor
function mb.rmsnorm(x, weight, epsilon) end

--- layernorm(x + added, weight, bias, epsilon) and x + added, in one pass over memory.
---@param x moonbow.Tensor (..., C)
---@param added moonbow.Tensor of x's shape
---@param weight? moonbow.Tensor
---@param bias? moonbow.Tensor
---@param epsilon? number default 1e-5
---@return moonbow.Tensor norm
---@return moonbow.Tensor sum
function mb.add_layernorm(x, added, weight, bias, epsilon) end

--- rmsnorm(x + added, weight, epsilon) and x + added, in one pass over memory.
---@param x moonbow.Tensor (..., C)
---@param added moonbow.Tensor of x's shape
---@param weight? moonbow.Tensor (C)
---@param epsilon? number default 1e-6
---@return moonbow.Tensor norm
---@return moonbow.Tensor sum
function mb.add_rmsnorm(x, added, weight, epsilon) end

--- Rotary position embedding (Su et al. 2021).
---@param x moonbow.Tensor (B, T, H, D)
---@param base? number default 10000
---@param first_position? integer of x's first token, counted from 0, the default
---@return moonbow.Tensor
function mb.rotary(x, base, first_position) end

--- e^a over its sum along a dimension.
---@param a moonbow.Tensor
---@param dim? integer default: the last
---@return moonbow.Tensor
function mb.softmax(a, dim) end

--- The logarithm of softmax, without its underflow.
---@param a moonbow.Tensor
---@param dim? integer default: the last
---@return moonbow.Tensor
function mb.log_softmax(a, dim) end

--- Causal attention, softmax(scale q k^T) v, over q, k, v (B, T, H, D) -> (B, T, H, D).
---@param q moonbow.Tensor
---@param k moonbow.Tensor
---@param v moonbow.Tensor
---@param scale? number default 1 / sqrt(D)
---@return moonbow.Tensor
function mb.attention(q, k, v, scale) end

--- Causal attention over queries, keys and values side by side: qkv (B, T, 3 C) -> (B, T, C).
---@param qkv moonbow.Tensor
---@param n_head integer which divides C
---@param scale? number default 1 / sqrt(C / n_head)
---@return moonbow.Tensor
function mb.attention_packed(qkv, n_head, scale) end

--- Causal attention for qkv (B, T, 3 C) of positions from `first` (counted from 0) on, the past in a cache (2, B, H, N, D) of
--- keys and values, which takes in the new ones. Not recorded.
---@param qkv moonbow.Tensor
---@param cache moonbow.Tensor
---@param first integer
---@param scale? number default 1 / sqrt(D)
---@return moonbow.Tensor (B, T, C)
function mb.attention_cached(qkv, cache, first, scale) end

--- Zeroes with probability p and scales the rest by 1 / (1 - p). Takes one random stream.
---@param a moonbow.Tensor
---@param p number in [0, 1)
---@return moonbow.Tensor
function mb.dropout(a, p) end

--- Same elements in another shape; one size may be -1. A view where the layout allows one.
---@param a moonbow.Tensor
---@param ... integer|integer[] sizes, or one array of them
---@return moonbow.Tensor
function mb.reshape(a, ...) end

--- A view with two dimensions exchanged; the last two if none are named.
---@param a moonbow.Tensor
---@param dim1? integer
---@param dim2? integer
---@return moonbow.Tensor
function mb.transpose(a, dim1, dim2) end

--- A view with its dimensions in the given order: permute(a, 2, 1) transposes a matrix.
---@param a moonbow.Tensor
---@param ... integer|integer[] dimensions, or one array of them
---@return moonbow.Tensor
function mb.permute(a, ...) end

--- Joins tensors along a dimension.
---@param tensors moonbow.Tensor[]
---@param dim? integer default 1
---@return moonbow.Tensor
function mb.concat(tensors, dim) end

--- Joins tensors of one shape along a new dimension.
---@param tensors moonbow.Tensor[]
---@param dim? integer default 1
---@return moonbow.Tensor
function mb.stack(tensors, dim) end

--- out[i][j] = a[index[i][j]][j] for dim 1, and so on; index (i32) counts from 0, being data.
---@param a moonbow.Tensor
---@param dim integer
---@param index moonbow.Tensor
---@return moonbow.Tensor
function mb.gather(a, dim, index) end

--- The device that new tensors and models are put on; sets it when one is named. At first it is "cuda"
--- where there is such a device, else "cpu".
---@param name? "cpu"|"cuda"
---@return "cpu"|"cuda"
function mb.device(name) end

--- A tensor of numbers: nested tables (rows first), one number, a string of little-endian elements, or what
--- a cdata pointer points to (`shape` is needed then; dtype is that of the pointer unless named).
---@param values number|table|string|ffi.cdata*
---@param given? { dtype?: string, device?: "cpu"|"cuda", shape?: integer[], requires_grad?: boolean }
---@return moonbow.Tensor
function mb.tensor(values, given) end

--- Ids as a tensor of i32, from nested tables; a tensor is returned as it is.
---@param values table|moonbow.Tensor
---@param device? "cpu"|"cuda"
---@return moonbow.Tensor
function mb.ids(values, device) end

--- A tensor of one value: mb.full({ 2, 3 }, 0.5).
---@param shape integer|integer[]
---@param value number
---@param given? moonbow.CreateOptions
---@return moonbow.Tensor
function mb.full(shape, value, given) end

--- Zeros: mb.zeros(2, 3), mb.zeros({ 2, 3 }, { dtype = "f64" }).
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function mb.zeros(...) end

--- Ones: mb.ones(2, 3), mb.ones({ 2, 3 }, { dtype = "f64" }).
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function mb.ones(...) end

--- Undefined contents, to be filled.
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function mb.empty(...) end

--- Normal numbers of mean 0 and standard deviation 1; takes one random stream.
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function mb.randn(...) end

--- Uniform numbers in [0, 1); takes one random stream.
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function mb.rand(...) end

--- Uniform numbers in [low, high); takes one random stream.
---@param shape integer|integer[]
---@param low number
---@param high number
---@param given? moonbow.CreateOptions
---@return moonbow.Tensor
function mb.uniform(shape, low, high, given) end

--- arange(stop): 0, 1, ... below stop. arange(start, stop, step): start, start + step, ... below stop.
---@param ... number|moonbow.CreateOptions numbers, then options
---@return moonbow.Tensor
function mb.arange(...) end

--- The identity matrix, or one with ones on the diagonal of n rows and m columns.
---@param n integer
---@param m? integer default n
---@param given? moonbow.CreateOptions may come second
---@return moonbow.Tensor
function mb.eye(n, m, given) end

--- Zeros in the shape, dtype and device of t.
---@param t moonbow.Tensor
---@param given? moonbow.LikeOptions
---@return moonbow.Tensor
function mb.zeros_like(t, given) end

--- Ones in the shape, dtype and device of t.
---@param t moonbow.Tensor
---@param given? moonbow.LikeOptions
---@return moonbow.Tensor
function mb.ones_like(t, given) end

--- Undefined contents in the shape, dtype and device of t.
---@param t moonbow.Tensor
---@param given? moonbow.LikeOptions
---@return moonbow.Tensor
function mb.empty_like(t, given) end

--- Normal numbers of mean 0 and standard deviation 1 in the shape, dtype and device of t.
---@param t moonbow.Tensor
---@param given? moonbow.LikeOptions
---@return moonbow.Tensor
function mb.randn_like(t, given) end

--- Uniform numbers in [0, 1) in the shape, dtype and device of t.
---@param t moonbow.Tensor
---@param given? moonbow.LikeOptions
---@return moonbow.Tensor
function mb.rand_like(t, given) end

--- The largest live tensors, one a line.
---@return string
function mb.memory_report() end

