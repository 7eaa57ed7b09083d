// TensorRT's C++ interface as one table of C functions, `FRAMEPIPE_TENSORRT_API`; enabled.rs has its twin.
//
// Compiled once for each major version (build.rs), with the headers of 10.16 and 11.4. Minor versions add functions at the
// ends of TensorRT's tables: those called here lie where they lay in 10.0 and 11.0.
//
// Nothing here is linked against TensorRT: the functions that make its objects are arguments, found by library.rs. What is
// returned is null, or false, when TensorRT refuses; the reason is in its log. Nothing throws.

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

namespace {

using namespace nvinfer1;
using nvonnxparser::IParser;

using Say = void (*)(void const* to, int32_t severity, char const* text);
using CreateInfer = void* (*)(void* log, int32_t version); // createInferRuntime_INTERNAL, createInferBuilder_INTERNAL
using CreateParser = void* (*)(void* network, void* log, int32_t version); // createNvOnnxParser_INTERNAL

class Log final : public ILogger {
public:
    Log(Say say, void const* to) : mSay(say), mTo(to) {}
    void log(Severity severity, AsciiChar const* text) noexcept override {
        mSay(mTo, static_cast<int32_t>(severity), text == nullptr ? "" : text);
    }

private:
    Say mSay;
    void const* mTo;
};

constexpr int32_t kRankMax = Dims::MAX_DIMS;

struct Shape {
    int32_t rank;
    int64_t sizes[kRankMax];
};

struct Tensor {
    char const* name; // the engine's
    int32_t output;
    int32_t type; // DataType
    int32_t onHost;
    Shape shape;
};

struct Request {
    void const* onnx;
    size_t onnxBytes;
    char const* input;
    Shape shapes[3]; // smallest, best, largest
    size_t workspaceBytes;
    void const* timings;
    size_t timingsBytes;
    int32_t fp16;
};

struct Plan {
    IHostMemory* plan;
    IHostMemory* timings; // null where there are none
};

// What a build failed at; builder.rs has the words.
enum Step : int32_t { kDONE, kBUILDER, kNETWORK, kPARSER, kMODEL, kQUANTISED, kPROFILE, kBUILD };

Dims toDims(Shape const& shape) {
    Dims dims{};
    dims.nbDims = shape.rank < kRankMax ? shape.rank : kRankMax;
    for (int32_t i = 0; i < dims.nbDims; ++i) {
        dims.d[i] = shape.sizes[i];
    }
    return dims;
}

bool toShape(Dims const& dims, Shape* shape) {
    if (dims.nbDims < 0 || dims.nbDims > kRankMax) {
        return false;
    }
    *shape = {};
    shape->rank = dims.nbDims;
    for (int32_t i = 0; i < dims.nbDims; ++i) {
        shape->sizes[i] = dims.d[i];
    }
    return true;
}

Log* logNew(Say say, void const* to) { return new (std::nothrow) Log(say, to); }

IRuntime* runtimeNew(CreateInfer create, Log* log) {
    return static_cast<IRuntime*>(create(static_cast<ILogger*>(log), NV_TENSORRT_VERSION));
}

void runtimeFree(IRuntime* runtime) { delete runtime; }

ICudaEngine* engineNew(IRuntime* runtime, void const* plan, size_t bytes) {
    return runtime->deserializeCudaEngine(plan, bytes);
}

void engineFree(ICudaEngine* engine) { delete engine; }

int32_t tensorCount(ICudaEngine const* engine) { return engine->getNbIOTensors(); }

bool tensor(ICudaEngine const* engine, int32_t index, Tensor* out) {
    char const* name = engine->getIOTensorName(index);
    if (name == nullptr || !toShape(engine->getTensorShape(name), &out->shape)) {
        return false;
    }
    out->name = name;
    out->output = engine->getTensorIOMode(name) == TensorIOMode::kOUTPUT;
    out->type = static_cast<int32_t>(engine->getTensorDataType(name));
    out->onHost = engine->getTensorLocation(name) == TensorLocation::kHOST;
    return true;
}

IExecutionContext* contextNew(ICudaEngine* engine) { return engine->createExecutionContext(); }

void contextFree(IExecutionContext* context) { delete context; }

bool setShape(IExecutionContext* context, char const* name, Shape const* shape) {
    return context->setInputShape(name, toDims(*shape));
}

bool shapeOf(IExecutionContext const* context, char const* name, Shape* shape) {
    return toShape(context->getTensorShape(name), shape);
}

bool bind(IExecutionContext* context, char const* name, uint64_t address) {
    return context->setTensorAddress(name, reinterpret_cast<void*>(address));
}

bool enqueue(IExecutionContext* context, void* stream) {
    return context->enqueueV3(static_cast<cudaStream_t>(stream));
}

bool isQuantised(INetworkDefinition const& network) {
    for (int32_t i = 0; i < network.getNbLayers(); ++i) {
        LayerType const type = network.getLayer(i)->getType();
        if (type == LayerType::kQUANTIZE || type == LayerType::kDEQUANTIZE) {
            return true;
        }
    }
    return false;
}

// The graph's own types hold ("strongly typed", which is all that 11 knows); only FP16 in 10 lets the builder choose.
NetworkDefinitionCreationFlags networkFlags([[maybe_unused]] bool fp16) {
#if NV_TENSORRT_MAJOR >= 11
    return 0;
#else
    return fp16 ? 0U : 1U << static_cast<uint32_t>(NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#endif
}

void setFp16([[maybe_unused]] IBuilderConfig& config) {
#if NV_TENSORRT_MAJOR < 11
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" // by 10.12, in favour of graphs that are FP16 themselves
    config.setFlag(BuilderFlag::kFP16);
#pragma GCC diagnostic pop
#endif
}

// The timings given, or none where TensorRT does not want them: made by another version, or for another GPU.
std::unique_ptr<ITimingCache> timingCache(IBuilderConfig& config, Request const& request) {
    std::unique_ptr<ITimingCache> cache{config.createTimingCache(request.timings, request.timingsBytes)};
    if (cache == nullptr || !config.setTimingCache(*cache, false)) {
        cache.reset(config.createTimingCache(nullptr, 0));
        if (cache != nullptr && !config.setTimingCache(*cache, false)) {
            cache.reset();
        }
    }
    return cache;
}

// TensorRT takes a profile of any name, and then misses that of the input.
bool hasInput(INetworkDefinition const& network, char const* name) {
    for (int32_t i = 0; i < network.getNbInputs(); ++i) {
        if (std::strcmp(network.getInput(i)->getName(), name) == 0) {
            return true;
        }
    }
    return false;
}

bool addProfile(IBuilder& builder, IBuilderConfig& config, Request const& request) {
    IOptimizationProfile* profile = builder.createOptimizationProfile(); // the builder's
    OptProfileSelector const selectors[]{OptProfileSelector::kMIN, OptProfileSelector::kOPT, OptProfileSelector::kMAX};
    bool fits = profile != nullptr;
    for (int32_t i = 0; fits && i < 3; ++i) {
        fits = profile->setDimensions(request.input, selectors[i], toDims(request.shapes[i]));
    }
    return fits && config.addOptimizationProfile(profile) >= 0;
}

int32_t build(CreateInfer createBuilder, CreateParser createParser, Log* log, Request const* request, Plan* out) {
    *out = {};
    std::unique_ptr<IBuilder> const builder{
        static_cast<IBuilder*>(createBuilder(static_cast<ILogger*>(log), NV_TENSORRT_VERSION))};
    if (builder == nullptr) {
        return kBUILDER;
    }
    bool const fp16 = request->fp16 != 0;
    std::unique_ptr<INetworkDefinition> const network{builder->createNetworkV2(networkFlags(fp16))};
    std::unique_ptr<IBuilderConfig> const config{builder->createBuilderConfig()};
    if (network == nullptr || config == nullptr) {
        return kNETWORK;
    }
    // The network may point into the parser's copy of the weights: it goes after the build.
    std::unique_ptr<IParser> const parser{static_cast<IParser*>(
        createParser(network.get(), static_cast<ILogger*>(log), NV_ONNX_PARSER_VERSION))};
    if (parser == nullptr) {
        return kPARSER;
    }
    // Of no bytes at all the parser makes a network of nothing.
    if (!parser->parse(request->onnx, request->onnxBytes, nullptr) || network->getNbInputs() == 0) {
        for (int32_t i = 0; i < parser->getNbErrors(); ++i) {
            log->log(ILogger::Severity::kERROR, parser->getError(i)->desc());
        }
        return kMODEL;
    }
    if (fp16) {
        if (isQuantised(*network)) {
            return kQUANTISED;
        }
        setFp16(*config);
    }
    if (request->workspaceBytes != 0) {
        config->setMemoryPoolLimit(MemoryPoolType::kWORKSPACE, request->workspaceBytes);
    }
    if (!hasInput(*network, request->input) || !addProfile(*builder, *config, *request)) {
        return kPROFILE;
    }
    std::unique_ptr<ITimingCache> const cache = timingCache(*config, *request);
    out->plan = builder->buildSerializedNetwork(*network, *config);
    if (out->plan == nullptr) {
        return kBUILD;
    }
    out->timings = cache == nullptr ? nullptr : cache->serialize();
    return kDONE;
}

void const* memoryData(IHostMemory const* memory, size_t* bytes) {
    *bytes = memory->size();
    return memory->data();
}

void memoryFree(IHostMemory* memory) { delete memory; }

struct Api {
    Log* (*logNew)(Say say, void const* to);
    IRuntime* (*runtimeNew)(CreateInfer create, Log* log);
    void (*runtimeFree)(IRuntime* runtime);
    ICudaEngine* (*engineNew)(IRuntime* runtime, void const* plan, size_t bytes);
    void (*engineFree)(ICudaEngine* engine);
    int32_t (*tensorCount)(ICudaEngine const* engine);
    bool (*tensor)(ICudaEngine const* engine, int32_t index, Tensor* out);
    IExecutionContext* (*contextNew)(ICudaEngine* engine);
    void (*contextFree)(IExecutionContext* context);
    bool (*setShape)(IExecutionContext* context, char const* name, Shape const* shape);
    bool (*shapeOf)(IExecutionContext const* context, char const* name, Shape* shape);
    bool (*bind)(IExecutionContext* context, char const* name, uint64_t address);
    bool (*enqueue)(IExecutionContext* context, void* stream);
    int32_t (*build)(CreateInfer createBuilder, CreateParser createParser, Log* log, Request const* request, Plan* out);
    void const* (*memoryData)(IHostMemory const* memory, size_t* bytes);
    void (*memoryFree)(IHostMemory* memory);
};

} // namespace

extern "C" {
extern Api const FRAMEPIPE_TENSORRT_API;
Api const FRAMEPIPE_TENSORRT_API{logNew, runtimeNew, runtimeFree, engineNew, engineFree, tensorCount, tensor, contextNew,
    contextFree, setShape, shapeOf, bind, enqueue, build, memoryData, memoryFree};
}
