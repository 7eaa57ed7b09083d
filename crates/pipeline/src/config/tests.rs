use super::*;
use crate::{Device, LogFormat, Mps, Pool, Profile, stage_index};

const LEAST: &str = "[pipeline]\ndetector = \"finder\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/framepipe/x.toml"), &Overrides::default())
}

#[test]
fn the_shortest_file_gets_every_default() {
    let config = parse(LEAST).expect("it is enough");
    assert_eq!(config.detector.to_string(), "finder");
    assert_eq!(config.models, Path::new("/etc/models"));
    assert_eq!(config.stages.len(), STAGES.len());
    assert_eq!(config.mps, Mps::Off);
}

#[test]
fn the_profile_says_what_the_file_does_not_and_the_command_line_wins() {
    let layout = |text: &str, overrides: Overrides| {
        let config = Config::parse(text, Path::new("x.toml"), &overrides).expect("it is good");
        let detect = &config.stages[stage_index("detect").expect("a stage")];
        (detect.processes, detect.threads, config.pools[Pool::Tensor as usize].classes[0].1)
    };
    let on = |cores| Overrides { cores: Some(cores), ..Overrides::default() };
    let latency = format!("profile = \"latency\"\n{LEAST}");
    assert_eq!(layout(LEAST, on(2)), (2, 1, 16));
    assert_eq!(layout(LEAST, on(8)), (8, 1, 32), "and more slots");
    assert_eq!(layout(&latency, on(8)), (1, 8, 16));
    assert_eq!(layout(&latency, Overrides { profile: Some(Profile::Throughput), ..on(8) }), (8, 1, 32));
    assert_eq!(layout(&format!("{latency}[stages.detect]\nprocesses = 3\n"), on(8)), (3, 2, 16));
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    for (text, key) in [
        ("detecter = 1\n[pipeline]\ndetector = \"x\"\n", "detecter"),
        ("[pipeline]\ndetector = \"x\"\ncrop_max = 3\n", "crop_max"),
        ("[pipeline]\ndetector = \"x\"\n[stages.detekt]\nprocesses = 3\n", "detekt"),
        ("[pipeline]\ndetector = \"x\"\n[stages.detect]\nprocess = 3\n", "process"),
        ("[pipeline]\ndetector = \"x\"\n[limits]\npixels = 3\n", "pixels"),
    ] {
        let error = parse(text).expect_err(key).to_string();
        assert!(error.contains(&format!("unknown field `{key}`")), "{error}");
        assert!(error.contains("x.toml") && error.contains(&format!("{key} is no key: ")), "{error}");
    }
}

#[test]
fn a_value_out_of_bounds_is_an_error_that_names_key_value_and_bound() {
    for (more, words) in [
        ("[stages.detect]\nprocesses = 0\n", "stages.detect.processes = 0: give 1 to 64"),
        ("[stages.detect]\nnice = 40\n", "stages.detect.nice = 40"),
        (
            "[stages.detect]\ncpus = \"0-3\"\nnuma_node = 0\n",
            "stages.detect.numa_node = 0: stages.detect.cpus = \"0-3\" is said",
        ),
        ("[server]\ncpus = \"3-0\"\n", "\"3-0\" is no list of CPUs: write it as the kernel does"),
        ("device = \"tpu\"\n", "\"tpu\" is no device: give \"cpu\", \"memfd\", \"gpu\""),
        ("mps = \"on\"\n", "unknown variant `on`, expected one of `auto`, `off`, `require`"),
        ("mps = \"require\"\n", "pipeline.mps = \"require\": pipeline.device is \"cpu\", no GPU"),
        ("device = \"memfd\"\nmps = \"require\"\n", "pipeline.device is \"memfd\", no GPU"),
        ("jpeg = \"tpu\"\n", "unknown variant `tpu`, expected one of `cpu`, `gpu`, `auto`"),
        ("jpeg = \"gpu\"\n", "pipeline.jpeg = \"gpu\": pipeline.device is \"cpu\", no GPU"),
        ("[server]\nframes_max = 100000\n", "server.frames_max = 100000: give 1 to 65535"),
        ("[server]\ninbox = []\n", "server.inbox = []"),
        ("[pools]\nencoded = [{ bytes = \"2 MiB\", slots = 1 }, { bytes = \"1 MiB\", slots = 1 }]\n", "growing size"),
        ("[server]\ntcp = \"foo\"\n", "server.tcp = \"foo\": it is no address: give IP:PORT, such as 127.0.0.1:50051"),
        (
            "[server]\nhttp = \"9464\"\n",
            "server.http = \"9464\": it is no address: give IP:PORT, such as 127.0.0.1:9464",
        ),
        ("[traces]\nendpoint = \"https://x\"\n", "traces.endpoint = \"https://x\": give \"http://HOST:PORT\""),
        ("[traces]\nsample = 1.5\n", "traces.sample = 1.5: give a part of all frames, 0 to 1"),
        ("[pools]\nheld = []\n", "pools.held, the number of classes = 0: give 1 to 4"),
        ("[pools]\ncached = []\n", "pools.cached, the number of classes = 0: give 1 to 4"),
        (
            "[pools]\nheld = [{ slots = 0 }]\n",
            "pools.held = [(0, 0)]: give classes of growing size, each with one slot",
        ),
    ] {
        let error = parse(&format!("{LEAST}{more}")).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(parse("name = \"../x\"\n[pipeline]\ndetector = \"x\"\n").is_err(), "a name is no path");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let mut overrides = Overrides { tcp: Some(String::new()), device: Some(Device::Memfd), ..Overrides::default() };
    overrides.mps = Some(Mps::Off);
    overrides.log_level = Some(Level::Debug);
    overrides.set_processes("detect", 5);
    let text = format!(
        "{LEAST}device = \"gpu\"\nmps = \"require\"\n[stages.detect]\nprocesses = 3\n[server]\ntcp = \"[::]:1\"\n
         [log]\nlevel = \"error\"\nformat = \"json\"\n"
    );
    let config = Config::parse(&text, Path::new("x.toml"), &overrides).expect("it is good");
    assert_eq!(config.stages[stage_index("detect").expect("a stage")].processes, 5);
    assert_eq!((config.device, config.mps), (Device::Memfd, Mps::Off));
    assert_eq!(config.server.tcp, None, "an empty address is no listener");
    assert_eq!(config.log, LogConfig { level: Level::Debug, format: LogFormat::Json });
}

#[test]
fn the_documented_default_file_is_the_default() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let documented = std::fs::read_to_string(folder.join("framepipe.toml")).expect("config/framepipe.toml is there");
    let path = Path::new("/etc/framepipe/x.toml");
    let on_two = Overrides { cores: Some(2), ..Overrides::default() };
    let documented = Config::parse(&documented, path, &on_two).expect("it is good");
    let least = format!("name = \"street\"\n[pipeline]\ndetector = \"{}\"\n", documented.detector);
    let least = Config::parse(&least, path, &on_two).expect("it is good");
    assert_eq!(format!("{documented:#?}"), format!("{least:#?}"));
}
