// A libnvinfer and libnvonnxparser of the tests': as little of TensorRT as the shim calls, without a GPU. "Device" memory is the
// host's, a "stream" points to a counter, and an engine doubles its numbers.
//
// Behind each object lies a table of functions, as in TensorRT: those that are set here lie where these headers have them, and all
// others end the process.

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

using namespace nvinfer1;
using namespace nvonnxparser;

namespace {

int gLiveRun = 0, gLiveBuild = 0; // objects made and not freed
int gForever = 0; // those that nobody frees
ILogger* gLog = nullptr;
std::string gOnnx, gTrace; // the model being built, and what was asked meanwhile

void wrong() {
    std::fputs("a function of TensorRT was called that the tests know nothing of\n", stderr);
    std::abort();
}

template <class Member> size_t slot(Member member) { // where the Itanium ABI has it in its table
    size_t raw;
    std::memcpy(&raw, &member, sizeof raw);
    return (raw - 1) / sizeof(void*);
}

struct Table {
    void* slots[2 + 160]{};
    void** object = slots + 2; // what an object begins with
    Table(Table const& other) { std::memcpy(slots, other.slots, sizeof slots); }
    Table() { for (void*& slot : slots) slot = reinterpret_cast<void*>(wrong); }
    template <class Function> Table& at(size_t index, Function* function) {
        slots[2 + index] = reinterpret_cast<void*>(function);
        return *this;
    }
    template <class Member, class Function> Table& set(Member member, Function* function) { return at(slot(member), function); }
};

template <class V> V* inner(Table& table) { return reinterpret_cast<V*>(&table.object); }


// An object of the interface, behind which lies a table.
#define FAKE(Name, Base, V, live, member) \
    struct Name final : Base { \
        explicit Name(Table& table) { member = inner<apiv::V>(table); ++live; } \
        ~Name() noexcept override { --live; } \
    }

FAKE(Runtime, IRuntime, VRuntime, gLiveRun, mImpl);
FAKE(Engine, ICudaEngine, VCudaEngine, gLiveRun, mImpl);
FAKE(Context, IExecutionContext, VExecutionContext, gLiveRun, mImpl);
FAKE(Builder, IBuilder, VBuilder, gLiveBuild, mImpl);
FAKE(Network, INetworkDefinition, VNetworkDefinition, gLiveBuild, mImpl);
FAKE(Config, IBuilderConfig, VBuilderConfig, gLiveBuild, mImpl);
FAKE(Timings, ITimingCache, VTimingCache, gLiveBuild, mImpl);
FAKE(Layer, ILayer, VLayer, gForever, mLayer);
FAKE(Input, ITensor, VTensor, gForever, mImpl);
FAKE(Profile, IOptimizationProfile, VOptimizationProfile, gForever, mImpl);

bool refuse(char const* why) {
    gLog->log(ILogger::Severity::kERROR, why);
    return false;
}

std::string words(Dims const& dims) {
    std::string text;
    for (int i = 0; i < dims.nbDims; ++i) text += (i ? "x" : "") + std::to_string(dims.d[i]);
    return text;
}

struct Memory final : IHostMemory {
    struct Inner {
        void** object;
        std::string bytes;
    } inside;
    explicit Memory(std::string text) {
        static Table table = Table{}
            .set(&apiv::VHostMemory::data, +[](Inner* self) -> void const* { return self->bytes.data(); })
            .set(&apiv::VHostMemory::size, +[](Inner* self) { return self->bytes.size(); });
        inside = {table.object, std::move(text)};
        mImpl = reinterpret_cast<apiv::VHostMemory*>(&inside);
        ++gLiveBuild;
    }
    ~Memory() noexcept override { --gLiveBuild; }
};

// Running.

Dims gShape{2, {-1, 4}};
void* gAddresses[2]{};
int place(char const* name) { return !std::strcmp(name, "images") ? 0 : !std::strcmp(name, "scores") ? 1 : -1; }

bool setInputShape(void*, char const* name, Dims const& dims) {
    if (place(name) != 0 || dims.nbDims != 2 || dims.d[0] > 4 || dims.d[1] != 4) return refuse("not in the profile");
    gShape = dims;
    return true;
}

bool enqueue(void*, cudaStream_t stream) {
    if (!gAddresses[0] || !gAddresses[1] || gShape.d[0] < 0) return refuse("something is not set");
    for (int64_t i = 0; i < gShape.d[0] * gShape.d[1]; ++i) {
        static_cast<float*>(gAddresses[1])[i] = 2 * static_cast<float*>(gAddresses[0])[i];
    }
    ++*reinterpret_cast<int*>(stream);
    return true;
}

IExecutionContext* createContext(void*, ExecutionContextAllocationStrategy) {
    static Table table = Table{}
        .set(&apiv::VExecutionContext::setInputShape, setInputShape)
        .set(&apiv::VExecutionContext::getTensorShape, +[](void*, char const*) { return gShape; })
        .set(&apiv::VExecutionContext::setTensorAddress, +[](void*, char const* name, void* address) {
            gAddresses[place(name)] = address;
            return true;
        })
        .set(&apiv::VExecutionContext::enqueueV3, enqueue);
    return new Context(table);
}

ICudaEngine* deserialize(void*, void const* plan, size_t bytes) {
    if (bytes < 4 || std::memcmp(plan, "plan", 4) != 0) {
        refuse("the plan's magic number is wrong");
        return nullptr;
    }
    using V = apiv::VCudaEngine;
    static Table table = Table{}
        .set(&V::createExecutionContext, createContext)
        .set(&V::getNbIOTensors, +[](void*) { return 2; })
        .set(&V::getIOTensorName, +[](void*, int32_t index) { return index == 0 ? "images" : "scores"; })
        .set(&V::getTensorShape, +[](void*, char const*) { return Dims{2, {-1, 4}}; })
        .set(&V::getTensorDataType, +[](void*, char const* name) { return place(name) ? DataType::kHALF : DataType::kFLOAT; })
        .set(&V::getTensorLocation, +[](void*, char const*) { return TensorLocation::kDEVICE; })
        .set(&V::getTensorIOMode, +[](void*, char const* name) { return place(name) ? TensorIOMode::kOUTPUT : TensorIOMode::kINPUT; });
    return new Engine(table);
}

// Building.

bool parse(void*, void const* onnx, size_t bytes, char const*) {
    gOnnx.assign(static_cast<char const*>(onnx), bytes);
    return gOnnx != "unreadable";
}

IOptimizationProfile* createProfile(void*) {
    static Table table = Table{}.set(&apiv::VOptimizationProfile::setDimensions,
        +[](void*, char const* name, OptProfileSelector select, Dims const& dims) {
            gTrace += " " + std::string(name) + std::to_string(static_cast<int>(select)) + "=" + words(dims);
            return dims.d[0] <= 8 || refuse("more than the model takes");
        });
    static Profile profile(table); // the builder's
    return &profile;
}

INetworkDefinition* createNetwork(void*, NetworkDefinitionCreationFlags flags) {
    static Table layers = Table{}.set(&apiv::VLayer::getType,
        +[](void*) { return gOnnx == "quantised" ? LayerType::kQUANTIZE : LayerType::kCONVOLUTION; });
    static Layer layer(layers);
    static Table tensors = Table{}.set(&apiv::VTensor::getName, +[](void*) { return "images"; });
    static Input input(tensors);
    static Table table = Table{}
        .set(&apiv::VNetworkDefinition::getNbInputs, +[](void*) { return gOnnx.empty() ? 0 : 1; })
        .set(&apiv::VNetworkDefinition::getInput, +[](void*, int32_t) -> ITensor* { return &input; })
        .set(&apiv::VNetworkDefinition::getNbLayers, +[](void*) { return 1; })
        .set(&apiv::VNetworkDefinition::getLayer, +[](void*, int32_t) -> ILayer* { return &layer; });
    gTrace += "flags=" + std::to_string(flags);
    return new Network(table);
}

ITimingCache* createTimings(void*, void const* blob, size_t bytes) {
    static Table table = Table{}.set(&apiv::VTimingCache::serialize, +[](void*) -> IHostMemory* { return new Memory("measured"); });
    gTrace += " timings=" + std::string(static_cast<char const*>(blob), bytes);
    return new Timings(table);
}

IBuilderConfig* createConfig(void*) {
    using V = apiv::VBuilderConfig;
    static Table table = Table{}
        .set(&V::setFlag, +[](void*, BuilderFlag flag) { gTrace += " flag=" + std::to_string(static_cast<int>(flag)); })
        .set(&V::setMemoryPoolLimit, +[](void*, MemoryPoolType pool, size_t bytes) {
            gTrace += " pool" + std::to_string(static_cast<int>(pool)) + "=" + std::to_string(bytes);
        })
        .set(&V::addOptimizationProfile, +[](void*, IOptimizationProfile const*) { return 0; })
        .set(&V::createTimingCache, createTimings)
        .set(&V::setTimingCache, +[](void*, ITimingCache const&, bool) { return gTrace.find("=stale") != gTrace.size() - 6; });
    return new Config(table);
}

IHostMemory* buildNetwork(void*, INetworkDefinition&, IBuilderConfig&) {
    if (gOnnx == "unbuildable") {
        refuse("no implementation of a layer");
        return nullptr;
    }
    return new Memory("plan " + gTrace);
}

} // namespace

extern "C" {
int32_t getInferLibVersion() noexcept { return NV_TENSORRT_VERSION; }
int32_t getInferLibBuildVersion() noexcept { return 7; }
int fakeLiveRun() { return gLiveRun; }
int fakeLiveBuild() { return gLiveBuild; }

void* createInferRuntime_INTERNAL(void* log, int32_t version) noexcept {
    static Table table = Table{}.set(
        static_cast<ICudaEngine* (apiv::VRuntime::*)(void const*, std::size_t) noexcept>(&apiv::VRuntime::deserializeCudaEngine),
        deserialize);
    gLog = static_cast<ILogger*>(log);
    gLog->log(ILogger::Severity::kINFO, ("runtime of " + std::to_string(version)).c_str());
    return static_cast<IRuntime*>(new Runtime(table));
}

void* createInferBuilder_INTERNAL(void* log, int32_t) noexcept {
    using V = apiv::VBuilder;
    static Table table = Table{}
        .set(&V::createBuilderConfig, createConfig)
        .set(&V::createNetworkV2, createNetwork)
        .set(&V::createOptimizationProfile, createProfile)
        .set(&V::buildSerializedNetwork, buildNetwork);
    gLog = static_cast<ILogger*>(log);
    gTrace.clear();
    return static_cast<IBuilder*>(new Builder(table));
}

void* createNvOnnxParser_INTERNAL(void*, void*, int) noexcept {
    static Table errors = Table{}.set(&IParserError::desc, +[](void*) { return "what is this operator?"; });
    static Table table = Table{}
        .set(&IParser::parse, parse)
        .set(&IParser::getNbErrors, +[](void*) { return gOnnx.empty() ? 0 : 1; })
        .set(&IParser::getError, +[](void*, int) { return inner<IParserError const>(errors); })
        .at(slot(&IParser::clearErrors) + 2, +[](void*) { --gLiveBuild; }); // the destructor that also frees
    ++gLiveBuild;
    return inner<IParser>(table);
}
}
