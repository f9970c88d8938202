---@meta _
-- SPDX-License-Identifier: MIT
--
-- moonbow.lua: for editors; written by scripts/docs/api.lua from the comments of the sources, which no program loads.

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

---@class moonbow.optim
local mb_optim = {}

---@class moonbow.clip
local mb_clip = {}

---@class moonbow.threshold
local mb_threshold = {}

---@class moonbow.schedule
local mb_schedule = {}

---@class moonbow.models
local mb_models = {}

---@class moonbow.safetensors
local mb_safetensors = {}

---@class moonbow.checkpoint
local mb_checkpoint = {}

---@class moonbow.jsonl
local mb_jsonl = {}

---@class moonbow.system
local mb_system = {}

---@class moonbow.tensorboard
local mb_tensorboard = {}

---@class moonbow.data
local mb_data = {}

---@class moonbow.linalg
local mb_linalg = {}

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

--- linear(gelu_tanh(x), weight, bias) in less memory: the backward computes gelu_tanh(x) again.
---@param x moonbow.Tensor
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function mb.gelu_linear(x, weight, bias) end

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

--- One optimizer made of several, each for its own parameters.
---@param model moonbow.Model
---@param list { where: string|function|table, name: string|moonbow.OptimizerConstructor }[] with each one's own options
---@return moonbow.Optimizer
function mb_optim.groups(model, list) end

---@class moonbow.adagrad.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-2
---@field lr_decay? number|fun(step: integer): number default 0
---@field initial? number|fun(step: integer): number default 0
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-10
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- The gradient over the root of the sum of its squares, as torch.optim.Adagrad.
---@param model moonbow.Model
---@param options? moonbow.adagrad.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.adagrad(model, options) end

---@class moonbow.adam.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.9, 0.999 }
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Adam with coupled weight decay, as torch.optim.Adam.
---@param model moonbow.Model
---@param options? moonbow.adam.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.adam(model, options) end

---@class moonbow.adamw.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.9, 0.999 }
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 1e-2

--- Adam with decoupled weight decay, as torch.optim.AdamW.
---@param model moonbow.Model
---@param options? moonbow.adamw.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.adamw(model, options) end

---@class moonbow.clipped_scion.Options
---@field rho? number|fun(step: integer): number default 40
---@field constrained? boolean default false
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Steps of bounded norm by layers, shortened where the gradient is small: Scion with generalized gradient
--- norm clipping, in the authors' form.
---@param model moonbow.Model
---@param options? moonbow.clipped_scion.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.clipped_scion(model, options) end

---@class moonbow.clipped_sign.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-4
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.1
---@field rho? number|fun(step: integer): number default 1
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Sign descent whose step shrinks with the gradient: generalized gradient norm clipping of the largest entry.
---@param model moonbow.Model
---@param options? moonbow.clipped_sign.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.clipped_sign(model, options) end

---@class moonbow.clipped_spectral.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.1
---@field rho? number|fun(step: integer): number default 1
---@field scope? "global"|"matrix" default "global"
---@field msign? string default "ns5"
---@field steps? number|fun(step: integer): number default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Spectral descent whose step shrinks with the gradient: generalized gradient norm clipping of the
--- largest singular value, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.clipped_spectral.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.clipped_spectral(model, options) end

---@class moonbow.ggnc.Options
---@field rho? number|fun(step: integer): number default 1
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Generalized gradient norm clipping, algorithm 1 of arXiv 2506.01913: as long as the gradient's dual norm is below
--- rho the step is steepest descent of the norm, above it a step of fixed length.
---@param model moonbow.Model
---@param options? moonbow.ggnc.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.ggnc(model, options) end

---@class moonbow.lamb.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.9, 0.999 }
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-6
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0.01

--- Adam's direction at a length that follows each parameter's.
---@param model moonbow.Model
---@param options? moonbow.lamb.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.lamb(model, options) end

---@class moonbow.lars.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.1
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field trust_coefficient? number|fun(step: integer): number default 1e-3
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- SGD whose rate follows the length of each parameter.
---@param model moonbow.Model
---@param options? moonbow.lars.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.lars(model, options) end

---@class moonbow.lion.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-4
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.9, 0.99 }
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Steps along the sign of a mean of momentum and gradient; the momentum itself forgets more slowly.
---@param model moonbow.Model
---@param options? moonbow.lion.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.lion(model, options) end

---@class moonbow.mucon.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field tau? number|fun(step: integer): number default 1
---@field nesterov? boolean looks one step ahead; default false
---@field form? string default "lerp"
---@field scale? "none"|unpack(muon.limits.scale.choices) default "none"
---@field method? "exact"|"polar"|"soft" default "polar"
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Muon with its momentum clipped instead of made orthogonal, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.mucon.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.mucon(model, options) end

---@class moonbow.muon.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field nesterov? boolean looks one step ahead; default false
---@field form? "lerp"|"jordan" default "lerp"
---@field scale? "match_rms_adamw"|"original"|"spectral" default "match_rms_adamw"
---@field msign? string default "ns5"
---@field steps? number|fun(step: integer): number default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Momentum made orthogonal, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.muon.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.muon(model, options) end

---@class moonbow.normalized_gd.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field scope? "group"|"parameter" default "group"

--- Steps of one length along the gradient, or along its moving average.
---@param model moonbow.Model
---@param options? moonbow.normalized_gd.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.normalized_gd(model, options) end

---@class moonbow.rmsprop.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-2
---@field alpha? number|fun(step: integer): number default 0.99
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0
---@field centered? boolean default false
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- The gradient over the root of its mean square, as torch.optim.RMSprop.
---@param model moonbow.Model
---@param options? moonbow.rmsprop.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.rmsprop(model, options) end

---@class moonbow.scion.Options
---@field constrained? boolean default false
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Steps along the oracle of each layer's norm.
---@param model moonbow.Model
---@param options? moonbow.scion.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.scion(model, options) end

---@class moonbow.scion_light.Options
---@field constrained? boolean default false
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- Scion without a buffer: the gradient's own memory holds the average.
---@param model moonbow.Model
---@param options? moonbow.scion_light.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.scion_light(model, options) end

---@class moonbow.sgd.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0
---@field nesterov? boolean looks one step ahead; default false
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Stochastic gradient descent with momentum, as torch.optim.SGD (dampening 0).
---@param model moonbow.Model
---@param options? moonbow.sgd.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.sgd(model, options) end

---@class moonbow.shampoo.Options
---@field lr? number|fun(step: integer): number learning rate; default 0.1
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field beta2? number|fun(step: integer): number default 1
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-4
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field every? number|fun(step: integer): number default 1
---@field max_side? number|fun(step: integer): number default 8192
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Gradients scaled from both sides by roots of what they have been, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.shampoo.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.shampoo(model, options) end

---@class moonbow.short_step.Options
---@field rho? number|fun(step: integer): number default 1
---@field beta? number|fun(step: integer): number default 1
---@field variant? number|fun(step: integer): number default 2
---@field lr? number|fun(step: integer): number learning rate; default 0.01
---@field momentum? number|fun(step: integer): number share of the new gradient; default 0.1
---@field norms? string|table<string, string> a norm of optim/norms.lua, or norms by parameter or role; default "auto"
---@field radius? number|table<string, number> size of a step in the norm, or sizes by parameter or role; default 1
---@field msign? "ns5"|"polar_express"|"exact" how u v^T is computed; default "ns5"
---@field steps? integer iterations of it; default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart

--- The short step of conditional gradients, clipped: algorithm 2 of arXiv 2506.01913. Weight decay is a part of
--- it: weights stay in the ball of radius beta, if they begin there, lr rho is at most 1 and msign is exact.
---@param model moonbow.Model
---@param options? moonbow.short_step.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.short_step(model, options) end

---@class moonbow.signsgd.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Steps along the sign of the gradient.
---@param model moonbow.Model
---@param options? moonbow.signsgd.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.signsgd(model, options) end

---@class moonbow.signum.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 0.9
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0

--- Steps along the sign of a moving average of the gradients.
---@param model moonbow.Model
---@param options? moonbow.signum.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.signum(model, options) end

---@class moonbow.soap.Options
---@field lr? number|fun(step: integer): number learning rate; default 3e-3
---@field betas? number[] decay rates of the averages of the gradient and of its square; default { 0.95, 0.95 }
---@field shampoo_beta? number|fun(step: integer): number default 0.95
---@field eps? number|fun(step: integer): number is added to what is divided by; default 1e-8
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0.01
---@field every? number|fun(step: integer): number default 10
---@field max_side? number|fun(step: integer): number default 8192
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Adam in the eigenbasis of Shampoo's matrices, for hidden matrices and filters.
---@param model moonbow.Model
---@param options? moonbow.soap.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.soap(model, options) end

--- An optimizer whose every step clips its updates.
---@param model moonbow.Model
---@param options moonbow.SpectraOptions
---@return moonbow.Optimizer
function mb_optim.spectra(model, options) end

---@class moonbow.spectral_descent.Options
---@field lr? number|fun(step: integer): number learning rate; default 1e-3
---@field momentum? number|fun(step: integer): number share of the past that is kept; scion and its kin: one minus that; default 1
---@field weight_decay? number|fun(step: integer): number weight decay, decoupled or not as the formula says; default 0
---@field msign? string default "ns5"
---@field steps? number|fun(step: integer): number default 5
---@field split? string|fun(p: moonbow.Parameter): integer what is one matrix: "qkv" and "heads" take GPT-2's c_attn apart
---@field rest? table optimizer of the other parameters, { name = "adamw", lr = 1e-3 }; default { name = "adamw" }

--- Stochastic spectral descent, for hidden matrices and filters: the steepest descent of the largest
--- singular value.
---@param model moonbow.Model
---@param options? moonbow.spectral_descent.Options numbers may be functions of the step
---@return moonbow.Optimizer
function mb_optim.spectral_descent(model, options) end

--- Holds each parameter's gradient to its own past (arXiv 2502.11034); threshold/adagc.lua says how.
---@param given? moonbow.AdagcClipOptions
---@return moonbow.NormClip
function mb_clip.adagc(given) end

--- Holds the norm of all gradients to a percentile of its past (AutoClip); threshold/autoclip.lua says how.
---@param given? moonbow.AutoclipClipOptions
---@return moonbow.NormClip
function mb_clip.autoclip(given) end

--- Clips one tensor into a new one, for looking and trying.
---@param t moonbow.Tensor seen as a matrix of shape[1] rows
---@param given moonbow.MatrixClipOptions
---@return moonbow.Tensor clipped
---@return table info
function mb_clip.matrix(t, given) end

--- Clipping by the Euclidean norm.
---@param given moonbow.NormClipOptions
---@return moonbow.NormClip
function mb_clip.norm(given) end

--- Clipping of singular values.
---@param given moonbow.SpectralClipOptions
---@return moonbow.SpectralClip
function mb_clip.spectral(given) end

--- Clips spikes of the norm of all gradients (ZClip, arXiv 2504.02507); threshold/zscore.lua says how.
---@param given? moonbow.ZclipOptions
---@return moonbow.NormClip
function mb_clip.zclip(given) end

--- AdaGC (Wang et al., arXiv 2502.11034, algorithm 1): each gradient is held to a little more than the moving
--- average of what it was before, after clipping.
---@param given? moonbow.AdagcOptions
---@return moonbow.Threshold
function mb_threshold.adagc(given) end

--- AutoClip (Seetharaman, Wichern, Pardo, Le Roux, MLSP 2020, arXiv 2007.14469): the p-th percentile
--- of the whole history, the present sample among it, so that the first step clips nothing.
---@param given? moonbow.AutoclipOptions
---@return moonbow.Threshold
function mb_threshold.autoclip(given) end

--- Always the same threshold. mb.threshold.const { tau = 1.0 } is what a plain number means.
---@param given moonbow.ConstOptions
---@return moonbow.Threshold
function mb_threshold.const(given) end

--- The bias-corrected moving average of past largest singular values (arXiv 2605.11838, eq. 8).
---@param given? moonbow.EmaOptions
---@return moonbow.Threshold
function mb_threshold.ema(given) end

--- A lower quantile of the last largest singular values (arXiv 2605.11838, eqs. 9-10).
---@param given? moonbow.QuantileOptions
---@return moonbow.Threshold
function mb_threshold.quantile(given) end

--- ZClip (Kumar, Owen, Roy Chowdhury, Guera, arXiv 2504.02507): a sample that lies more than `z` standard
--- deviations above the moving average is a spike, and is clipped.
---@param given? moonbow.ZscoreOptions
---@return moonbow.Threshold
function mb_threshold.zscore(given) end

--- One number for all steps, after an optional warm-up.
---@param given number|{ value: number, warmup?: integer }
---@return moonbow.Schedule
function mb_schedule.const(given) end

--- Linear warm-up, then half a cosine (Loshchilov and Hutter 2017, without restarts).
---@param given moonbow.ScheduleOptions
---@return moonbow.Schedule
function mb_schedule.cosine(given) end

--- Linear warm-up, then decay by the square root of the step (Vaswani et al. 2017, section 5.3, scaled
--- so that the peak is `peak`).
---@param given { peak: number, warmup?: integer }
---@return moonbow.Schedule
function mb_schedule.inverse_sqrt(given) end

--- Linear warm-up, then linear decay.
---@param given moonbow.ScheduleOptions
---@return moonbow.Schedule
function mb_schedule.linear(given) end

--- Up and down once (Smith and Topin 2017), as torch.optim.lr_scheduler.OneCycleLR with two phases.
---@param given moonbow.OneCycleOptions
---@return moonbow.Schedule
function mb_schedule.one_cycle(given) end

--- The other name of wsd.lua with its linear fall.
---@param given moonbow.TrapezoidalOptions
---@return moonbow.Schedule
function mb_schedule.trapezoidal(given) end

--- Warm-up, stable, decay: a trapezoid (Hu et al. 2024, MiniCPM; Hägele et al. 2024).
---@param given moonbow.WsdOptions
---@return moonbow.Schedule
function mb_schedule.wsd(given) end

--- Makes a constructor of models from a definition.
---@param given moonbow.ModelOptions
---@return fun(options?: table): moonbow.Model
function mb_models.define(given) end

--- GPT-2: tanh GELU, layernorm, GPT-2's initial values, or the weights of a file.
---@param given moonbow.GPT2Options
---@return moonbow.GPT2
function mb_models.gpt2(given) end

--- A GPT as modded-nanogpt has it (Jordan et al. 2024): rotary positions, RMS norms without weights, also of queries and keys,
--- squared ReLU, no biases. Queries, keys and values are matrices of their own, attn.c_q, c_k and c_v.
---@param given moonbow.GPTModernOptions
---@return moonbow.LanguageModel
function mb_models.gpt_modern(given) end

--- Fully connected layers; weights and biases start uniform in +-1/sqrt(inputs of the layer).
---@param given moonbow.MLPOptions
---@return moonbow.Model
function mb_models.mlp(given) end

--- Opens a text.
---@param given moonbow.TextOptions
---@return moonbow.Text
function mb_data.text(given) end

--- Opens token files.
---@param given moonbow.ShardsOptions
---@return moonbow.Shards
function mb_data.shards(given) end

--- Text of tokens that come one by one: a character is given out when its last byte is there.
---@param decoder { decode: fun(self, ids: integer[]): string }
---@return moonbow.Stream
function mb_data.stream(decoder) end

--- The documents and sources below a folder that has the project's layout, one after the other.
---@param root? string default: this checkout
---@return string
function mb_data.corpus(root) end

--- A Lua function over tensors, run as few passes over memory.
---@param fn fun(p: table<string, moonbow.Symbol>, h: table<string, moonbow.Symbol>)
---@param given? { shapes?: table<string, "rows"|"columns"|"parameter"> } fields with one number a row, a column or a parameter
---@return moonbow.Fused
function mb.fuse(fn, given) end

--- The function in the form that runs fastest on mb.device().
---@param fn F
---@return F
function mb.graph(fn) end

--- Singular values, descending.
---@param a moonbow.Tensor
---@return moonbow.Tensor s
function mb_linalg.svdvals(a) end

--- a = u diag(s) v^T, thin.
---@param a moonbow.Tensor
---@return moonbow.Tensor u
---@return moonbow.Tensor s
---@return moonbow.Tensor v
function mb_linalg.svd(a) end

--- a = q r, thin; r's diagonal is not negative.
---@param a moonbow.Tensor
---@return moonbow.Tensor q
---@return moonbow.Tensor r
function mb_linalg.qr(a) end

--- Symmetric a = vectors diag(values) vectors^T, values ascending; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor values
---@return moonbow.Tensor vectors
function mb_linalg.eigh(a) end

--- Eigenvalues of a symmetric matrix, ascending; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor values
function mb_linalg.eigvalsh(a) end

--- a = l l^T; the lower triangle is read.
---@param a moonbow.Tensor
---@return moonbow.Tensor l
function mb_linalg.cholesky(a) end

--- What the singular values of gradients, weights or any tensors look like, one row a matrix.
---@param x moonbow.Model|moonbow.Tensor|table<string, moonbow.Tensor>
---@param given? moonbow.SpectrumOptions
---@return moonbow.SpectrumRow[] rows with title and k; prints as a table
function mb.spectrum(x, given) end

---@class moonbow.Tensor
local Tensor = {}

--- The negative of a.
---@return moonbow.Tensor|number
function Tensor:neg() end

--- |a|
---@return moonbow.Tensor|number
function Tensor:abs() end

--- The sign of a: -1, 0 or 1.
---@return moonbow.Tensor|number
function Tensor:sign() end

--- e^a
---@return moonbow.Tensor|number
function Tensor:exp() end

--- The natural logarithm: of 0 it is -inf, of less NaN.
---@return moonbow.Tensor|number
function Tensor:log() end

--- The square root; of a negative number NaN.
---@return moonbow.Tensor|number
function Tensor:sqrt() end

--- a^2
---@return moonbow.Tensor|number
function Tensor:square() end

--- 1 / a
---@return moonbow.Tensor|number
function Tensor:reciprocal() end

--- tanh(a)
---@return moonbow.Tensor|number
function Tensor:tanh() end

--- 1 / (1 + e^-a)
---@return moonbow.Tensor|number
function Tensor:sigmoid() end

--- a sigmoid(a), also called swish (Elfwing, Uchibe, Doya 2017).
---@return moonbow.Tensor|number
function Tensor:silu() end

--- max(a, 0)
---@return moonbow.Tensor|number
function Tensor:relu() end

--- GELU in GPT-2's form: a / 2 (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))) (Hendrycks, Gimpel 2016).
---@return moonbow.Tensor|number
function Tensor:gelu_tanh() end

--- GELU: a Phi(a), Phi the normal distribution function. Of tensors alone.
---@return moonbow.Tensor|number
function Tensor:gelu_erf() end

--- The other name of gelu_tanh.
---@return moonbow.Tensor|number
function Tensor:gelu() end

--- 1 / sqrt(a)
---@return moonbow.Tensor|number
function Tensor:rsqrt() end

--- a + b. Shapes are broadcast as NumPy does it, here and in all functions of two tensors: sizes are compared from the last
--- dimension on, and a size of 1 or a missing one is stretched. Both have one dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:add(b) end

--- a - b, broadcast.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:sub(b) end

--- a b, element by element, broadcast.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:mul(b) end

--- a / b, broadcast.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:div(b) end

--- a^b, broadcast.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:pow(b) end

--- The lesser of a and b, element by element.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:minimum(b) end

--- The greater of a and b, element by element.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:maximum(b) end

--- a < b, element by element: 1 or 0 in a's dtype. Operators of Lua cannot do that: `a < b` of tensors is an error.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:less(b) end

--- a <= b, element by element: 1 or 0 in a's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:less_equal(b) end

--- Same shape, dtype and values? NaN is unequal to all.
---@param b moonbow.Tensor
---@return boolean
function Tensor:equal(b) end

--- a < b, element by element: 1 or 0 in a's dtype. Operators of Lua cannot do that: `a < b` of tensors is an error.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:lt(b) end

--- a <= b, element by element: 1 or 0 in a's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:le(b) end

--- a == b, element by element: 1 or 0 in a's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:eq(b) end

--- a > b, element by element: 1 or 0 in b's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:greater(b) end

--- a >= b, element by element: 1 or 0 in b's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:greater_equal(b) end

--- a > b, element by element: 1 or 0 in b's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:gt(b) end

--- a >= b, element by element: 1 or 0 in b's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:ge(b) end

--- condition ~= 0 and a or b, element by element; a and b may be numbers.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:where(a, b) end

--- min(max(a, low), high); either bound may be nil.
---@param low? moonbow.Tensor|number
---@param high? moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:clamp(low, high) end

--- scale * a + shift
---@param scale number
---@param shift number
---@return moonbow.Tensor
function Tensor:affine(scale, shift) end

--- Sum over `dims`, a dimension or an array of them, or over all elements; keepdim leaves size 1 behind.
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function Tensor:sum(dims, keepdim) end

--- Mean over `dims`, or over all elements.
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function Tensor:mean(dims, keepdim) end

--- Largest element over `dims`, or of all.
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function Tensor:max(dims, keepdim) end

--- Smallest element over `dims`, or of all.
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function Tensor:min(dims, keepdim) end

--- Position of the largest element along `dim`, as data: counts from 0. Without dim, over all elements.
---@param dim? integer
---@param keepdim? boolean
---@return moonbow.Tensor positions i32
function Tensor:argmax(dim, keepdim) end

--- Euclidean norm of all elements, or along `dims`.
---@param dims? integer|integer[]
---@param keepdim? boolean
---@return moonbow.Tensor
function Tensor:norm(dims, keepdim) end

--- op(a) op(b) over the last two dimensions: (..., m, k) (..., k, n) -> (..., m, n).
---@param b moonbow.Tensor
---@param options? { transpose_a?: boolean, transpose_b?: boolean }
---@return moonbow.Tensor
function Tensor:matmul(b, options) end

--- x weight^T + bias: x (..., in), weight (out, in), bias (out) or nil -> (..., out)
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function Tensor:linear(weight, bias) end

--- linear(gelu_tanh(x), weight, bias) in less memory: the backward computes gelu_tanh(x) again.
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function Tensor:gelu_linear(weight, bias) end

--- Rows of a table: weight (V, C), ids any shape of integers, from 0 -> ids' shape x (C)
---@param ids moonbow.Tensor
---@return moonbow.Tensor
function Tensor:embedding(ids) end

--- Layer normalization over the last dimension (Ba, Kiros, Hinton 2016): weight (x - mean) / sqrt(variance + epsilon) + bias,
--- with weight and bias (C) or nil.
---@param weight? moonbow.Tensor
---@param bias? moonbow.Tensor
---@param epsilon? number default 1e-5
---@return moonbow.Tensor
function Tensor:layernorm(weight, bias, epsilon) end

--- Root mean square normalization over the last dimension (Zhang, Sennrich 2019): weight x / sqrt(mean of x^2 + epsilon).
---@param weight? moonbow.Tensor (C)
---@param epsilon? number default 1e-6
---@return moonbow.Tensor
function Tensor:rmsnorm(weight, epsilon) end

--- Rotary position embedding (Su et al. 2021).
---@param base? number default 10000
---@param first_position? integer of x's first token, counted from 0, the default
---@return moonbow.Tensor
function Tensor:rotary(base, first_position) end

--- e^a over its sum along a dimension.
---@param dim? integer default: the last
---@return moonbow.Tensor
function Tensor:softmax(dim) end

--- The logarithm of softmax, without its underflow.
---@param dim? integer default: the last
---@return moonbow.Tensor
function Tensor:log_softmax(dim) end

--- Causal attention, softmax(scale q k^T) v, over q, k, v (B, T, H, D) -> (B, T, H, D).
---@param k moonbow.Tensor
---@param v moonbow.Tensor
---@param scale? number default 1 / sqrt(D)
---@return moonbow.Tensor
function Tensor:attention(k, v, scale) end

--- Causal attention over queries, keys and values side by side: qkv (B, T, 3 C) -> (B, T, C).
---@param n_head integer which divides C
---@param scale? number default 1 / sqrt(C / n_head)
---@return moonbow.Tensor
function Tensor:attention_packed(n_head, scale) end

--- Causal attention for qkv (B, T, 3 C) of positions from `first` (counted from 0) on, the past in a cache (2, B, H, N, D) of
--- keys and values, which takes in the new ones. Not recorded.
---@param cache moonbow.Tensor
---@param first integer
---@param scale? number default 1 / sqrt(D)
---@return moonbow.Tensor (B, T, C)
function Tensor:attention_cached(cache, first, scale) end

--- Zeroes with probability p and scales the rest by 1 / (1 - p). Takes one random stream.
---@param p number in [0, 1)
---@return moonbow.Tensor
function Tensor:dropout(p) end

--- logits (..., V), targets (...) of ids -> a tensor without dimensions; mb.cross_entropy has options by name.
---@param targets moonbow.Tensor
---@param label_smoothing? number
---@param ignore_index? integer
---@param reduce? "mean"|"sum"
---@return moonbow.Tensor
function Tensor:cross_entropy(targets, label_smoothing, ignore_index, reduce) end

--- Same elements in another shape; one size may be -1. A view where the layout allows one.
---@param ... integer|integer[] sizes, or one array of them
---@return moonbow.Tensor
function Tensor:reshape(...) end

--- All elements in one dimension, in the order of rows.
---@return moonbow.Tensor
function Tensor:flatten() end

--- A view broadcast to a shape.
---@param ... integer|integer[] sizes, or one array of them
---@return moonbow.Tensor
function Tensor:expand(...) end

--- A view with two dimensions exchanged; the last two if none are named.
---@param dim1? integer
---@param dim2? integer
---@return moonbow.Tensor
function Tensor:transpose(dim1, dim2) end

--- A view with its dimensions in the given order: permute(a, 2, 1) transposes a matrix.
---@param ... integer|integer[] dimensions, or one array of them
---@return moonbow.Tensor
function Tensor:permute(...) end

--- A view of positions first..last of a dimension, as string.sub counts: from 1, the last one included,
--- negative ones from the end.
---@param dim integer
---@param first? integer default 1
---@param last? integer default: the last
---@param step? integer default 1
---@return moonbow.Tensor
function Tensor:slice(dim, first, last, step) end

--- The slice at one position of a dimension, without that dimension: select(a, 1, 3) is the third row.
---@param dim integer
---@param position integer
---@return moonbow.Tensor
function Tensor:select(dim, position) end

--- The same elements with a dimension of size 1 put at `dim`.
---@param dim integer
---@return moonbow.Tensor
function Tensor:unsqueeze(dim) end

--- Without dimension `dim`, which has size 1; without any such dimension if none is named.
---@param dim? integer
---@return moonbow.Tensor
function Tensor:squeeze(dim) end

--- out[i][j] = a[index[i][j]][j] for dim 1, and so on; index (i32) counts from 0, being data.
---@param dim integer
---@param index moonbow.Tensor
---@return moonbow.Tensor
function Tensor:gather(dim, index) end

--- A copy.
---@return moonbow.Tensor
function Tensor:clone() end

--- The elements in the order of rows: a copy, or `a` itself where they lie so.
---@return moonbow.Tensor
function Tensor:contiguous() end

--- Same memory, no history.
---@return moonbow.Tensor
function Tensor:detach() end

--- The tensor as another dtype, or on another device; `a` itself if it is so already.
---@param name "f32"|"f64"|"bf16"|"i32"|"u16"|"u8"|"cpu"|"cuda" a dtype or a device
---@param rounding? "nearest"|"stochastic" to bf16: to one of the two neighbours at random, so that the mean is the element
---@return moonbow.Tensor
function Tensor:to(name, rounding) end

--- t = value
---@param value number
---@return moonbow.Tensor t
function Tensor:fill_(value) end

--- t = 0
---@return moonbow.Tensor t
function Tensor:zero_() end

--- t = source, broadcast and converted to t's dtype
---@param source moonbow.Tensor
---@return moonbow.Tensor t
function Tensor:copy_(source) end

--- t = scale * t + shift
---@param scale number
---@param shift number
---@return moonbow.Tensor t
function Tensor:affine_(scale, shift) end

--- t += alpha * a; a is a tensor or a number
---@param a moonbow.Tensor|number
---@param alpha? number default 1
---@return moonbow.Tensor t
function Tensor:add_(a, alpha) end

--- t -= alpha * a
---@param a moonbow.Tensor|number
---@param alpha? number default 1
---@return moonbow.Tensor t
function Tensor:sub_(a, alpha) end

--- t *= a
---@param a moonbow.Tensor|number
---@return moonbow.Tensor t
function Tensor:mul_(a) end

--- t *= a
---@param a moonbow.Tensor|number
---@return moonbow.Tensor t
function Tensor:scale_(a) end

--- t /= a
---@param a moonbow.Tensor|number
---@return moonbow.Tensor t
function Tensor:div_(a) end

--- t += weight * (a - t)
---@param a moonbow.Tensor
---@param weight number
---@return moonbow.Tensor t
function Tensor:lerp_(a, weight) end

--- Fills with normal numbers; takes one random stream.
---@param mean? number default 0
---@param std? number default 1
---@return moonbow.Tensor t
function Tensor:randn_(mean, std) end

--- Fills with uniform numbers in [low, high); takes one random stream.
---@param low? number default 0
---@param high? number default 1
---@return moonbow.Tensor t
function Tensor:uniform_(low, high) end

--- Makes a leaf want a gradient, or not.
---@param on? boolean default true
---@return moonbow.Tensor t
function Tensor:requires_grad_(on) end

--- The gradient counts as zero.
---@return moonbow.Tensor t
function Tensor:zero_grad() end

--- Adds d self / d leaf to the gradient of every leaf this was made from, and frees the graph.
---@param seed? moonbow.Tensor gradient to start from, 1 for a tensor of one element
function Tensor:backward(seed) end

--- Gives the memory back now; any later use is an error. For memory that cannot wait for the collector.
function Tensor:discard() end

--- The elements as nested tables; a number for a tensor without dimensions.
---@return table|number
function Tensor:totable() end

--- The value of a tensor with one element.
---@return number
function Tensor:item() end

--- Address of the first element of a tensor on the CPU, typed, valid while the tensor is held.
---@return ffi.cdata*
function Tensor:data() end

--- The elements as a string of little-endian numbers.
---@return string
function Tensor:bytes() end

--- Same shape, and |a - b| <= atol + rtol |b| everywhere? Dtypes may differ.
---@param b moonbow.Tensor
---@param options? { rtol?: number, atol?: number } default 1e-5, 1e-8
---@return boolean
---@return string? where it differs most
function Tensor:allclose(b, options) end

