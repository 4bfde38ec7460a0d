"""The texts of a report in English and Chinese. Names of models and statuses are those of the results."""

from __future__ import annotations

from visionbench.core import ConfigError
from visionbench.registry import nearest
from visionbench.report import advice_words
from visionbench.results import archive, missing
from visionbench.results.doubts import MOST_CAUSES, Cause, Doubts
from visionbench.results.missing import Gap

LANGUAGES = {"en": "English", "zh": "中文"}

PAGE_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Benchmark of vision models", "视觉模型测评报告"),
    "request": ("What was measured", "测了什么"),
    "machine": ("Machine", "测试机器"),
    "choice": ("What to choose", "如何选择"),
    "summary": ("Summary", "结果汇总"),
    "relative": ("Relative to the baseline", "相对基线"),
    "figures of quality": ("Quality with its 95 % interval", "质量及 95 % 区间"),
    "tuning": ("Search of the best configuration", "最佳配置搜索"),
    "tuning front": ("Throughput against latency", "吞吐量与延迟"),
    "caption tuning front": (
        "Each mark is a batch size of a configuration of the search. The dashed line is the Pareto front: no other "
        "measurement has both more throughput and less latency.",
        "每个标记是搜索中某配置的一个批大小。虚线为帕累托前沿：没有其他测量同时具有更高吞吐量与更低延迟。",
    ),
    "front note": ("Windows of the search, in one process each.", "搜索阶段的测量窗口，各为单进程。"),
    "tuning advice": (
        "The finals decide the search. The section “What to choose” uses all its runs, also those with short windows.",
        "搜索结果由决赛决定；“如何选择”一节使用全部运行，包括短窗口的运行。",
    ),
    "tuning notes": ("Notes", "说明"),
    "tuning result": ("result", "结果"),
    "tuning finals": ("Finals, beside the baseline", "决赛（与基线对照）"),
    "tuning tried": ("Configurations of the search", "搜索过的配置"),
    "tuning pareto": ("Pareto front of throughput and latency", "吞吐量与延迟的帕累托前沿"),
    "configuration": ("configuration", "配置"),
    "sizes": ("sizes", "批大小"),
    "÷ baseline": ("÷ baseline", "÷ 基线"),
    "÷ best": ("÷ best", "÷ 最佳"),
    "outcome": ("outcome", "结果"),
    "published": ("Beside published figures", "与公开数据对照"),
    "published rule": (
        "Each published figure is for the same model; the nearest in part of the model, device, precision and batch "
        "size. A throughput is scaled by the ratio of the peak rates of the two devices and, if our calls execute more "
        "of the model, by the ratio of the work of an image. A ratio below 1 is usual at smaller batch sizes.",
        "每条公开数据属于同一模型，取模型部分、设备、精度与批大小最接近者。吞吐量按两种设备峰值算力之比折算；"
        "若本次执行的部分更多，再按单图计算量之比折算。批大小较小时比值常低于 1。",
    ),
    "published figure": ("published", "公开数据"),
    "published scaled": ("published, scaled", "折算后"),
    "published ratio": ("ours ÷ scaled", "本次 ÷ 折算值"),
    "published share": ("share of the peak rate", "占峰值算力"),
    "published ours": ("ours", "本次"),
    "published differs": ("what differs", "差异"),
    "published source": ("source", "来源"),
    "batch differs": ("batch size {ours}, published {published}", "批大小 {ours}，公开数据 {published}"),
    "part differs": ("part {ours}, published {published}", "模型部分 {ours}，公开数据 {published}"),
    "autocast differs": ("published with autocast", "公开数据使用 autocast"),
    "implausible peak": (
        "{name}: implausible, {multiple} times the peak rate of the device; check that calls are synchronised and that "
        "the work of an image is correct",
        "{name}：不可信，为设备峰值算力的 {multiple} 倍；请检查同步与单图计算量",
    ),
    "implausible ceiling": (
        "{name}: implausible, {multiple} times the rate of large matrix products that was measured on the device; "
        "check that calls are synchronised, and measure again on a quiet machine",
        "{name}：不可信，为设备上实测大矩阵乘法速率的 {multiple} 倍；请检查同步，并在空闲机器上重新测量",
    ),
    "implausible published": (
        "{name}: implausible, {multiple} times the scaled published figure; check that the model and its input are "
        "those of the published figure",
        "{name}：不可信，为折算后公开数据的 {multiple} 倍；请检查模型与输入是否一致",
    ),
    "figure": ("figure", "指标"),
    "quality with interval": ("value", "数值"),
    "interval over": ("interval over", "区间基于"),
    "costs": ("costs {amount} {title}", "{title} 损失 {amount}"),
    "gains": ("gains {amount} {title}", "{title} 提升 {amount}"),
    "significant": ("significant", "差异显著"),
    "not significant": ("not significant", "未见差异"),
    "no picture differs": ("no image differs in {titles}", "{titles}：各图片结果相同"),
    "against": ("{name} against {base}", "{name} 与 {base} 相比"),
    "not paired": ("not compared image by image, because {why}", "未逐图比较：{why}"),
    "curves": ("Over batch size", "随批大小的变化"),
    "distribution": ("Distribution of latency", "延迟分布"),
    "memory": ("Memory", "内存占用"),
    "loads": ("Under load", "负载测试"),
    "load column": ("load, requests/s", "负载，请求/秒"),
    "clients column": ("clients", "客户端数"),
    "load (requests/s)": ("load (requests/s)", "负载（请求/秒）"),
    "clients": ("clients", "客户端数"),
    "latency (ms)": ("latency (ms)", "延迟（毫秒）"),
    "bound": ("bound", "上限"),
    "largest load": ("largest load", "最大负载"),
    "tradeoff": ("Quality against speed", "质量与速度"),
    "stages": ("From file to output", "各阶段耗时"),
    "roofline": ("Roofline", "屋顶线"),
    "doubts": ("Questionable results", "存疑的数据"),
    "failures": ("Failures, and what to try", "失败项与建议"),
    "conditions": ("Conditions of each run", "每次运行的条件"),
    "model": ("model", "模型"),
    "device": ("device", "设备"),
    "precision": ("precision", "精度"),
    "batch": ("batch", "批大小"),
    "quality": ("quality", "质量"),
    "verdict": ("verdict", "有效性"),
    "throughput": ("throughput", "吞吐量"),
    "latency": ("latency", "延迟"),
    "p50": ("p50, ms per batch", "p50，毫秒/批"),
    "p95": ("p95, ms per batch", "p95，毫秒/批"),
    "peak": ("peak memory, MiB", "峰值内存，MiB"),
    "batch size": ("batch size", "批大小"),
    "latency, p50 (ms)": ("latency of a batch, p50 (ms)", "每批延迟 p50（毫秒）"),
    "share of calls": ("share of calls up to this latency", "不超过该延迟的调用占比"),
    "call (ms)": ("latency of a call (ms)", "单次调用延迟（毫秒）"),
    "weights": ("weights", "权重"),
    "activations": ("activations and workspace", "模型之外：激活与工作区"),
    "libraries": ("process: Python and its libraries", "进程：Python 与库"),
    "intensity": ("FLOP per byte moved", "每字节浮点运算数"),
    "rate": ("TFLOP/s", "TFLOP/s"),
    "is valid": ("valid", "有效"),
    "is warned": ("questionable", "存疑"),
    "is invalid": ("invalid", "无效"),
    "tip of load": (
        "{name}, load {{batch}}: {{value}} {unit} ({{verdict}})",
        "{name}，负载 {{batch}}：{{value}} {unit}（{{verdict}}）",
    ),
    "tip of case": (
        "{name}, batch size {{batch}}: {{value}} {unit} ({{verdict}})",
        "{name}，批大小 {{batch}}：{{value}} {unit}（{{verdict}}）",
    ),
    "ms a batch": ("ms per batch, in series", "毫秒/批（串行）"),
    "legend": ("? questionable · ! invalid", "? 存疑 · ! 不可信"),
    "random": (
        "random weights: speed and memory are those of the real model, quality is refused",
        "随机权重：速度与内存与真实模型一致，不给出质量",
    ),
    "quick": (
        "measured with the protocol “{protocol}”, not with the standard one; use measure=standard for decisions",
        "使用“{protocol}”测量方案，并非标准方案；做决定请用 measure=standard",
    ),
    "hosts": (
        "measured on several hosts ({hosts}); a difference between hosts may be that of the machines",
        "在多台主机上测量（{hosts}）；不同主机之间的差异可能来自机器本身",
    ),
    "all doubts": ("The reasons of each case ({count})", "各结果的原因（{count}）"),
    "cause": ("cause", "原因"),
    "number of cases": ("cases", "结果数"),
    "what to do": ("what to do", "处理办法"),
    "for example": ("for example", "示例"),
    "contents": ("Contents", "目录"),
    "table search": ("search", "搜索"),
    "table all": ("all", "全部"),
    "table rows": ("{{shown}} of {{all}} rows", "{{all}} 行中的 {{shown}} 行"),
    "baseline": ("Baseline: {name}.", "基线：{name}。"),
    "ratio of throughput": ("throughput ÷ baseline", "吞吐量 ÷ 基线"),
    "ratio of latency": ("p50 ÷ baseline", "p50 ÷ 基线"),
    "interval across": ("95 % interval across processes", "跨进程 95 % 区间"),
    "interval within": (
        "within-process bounds, not an interval across processes (measure.repeats=5 gives one)",
        "进程内界限，并非跨进程区间（用 measure.repeats=5 可得）",
    ),
    "try smaller": ("a smaller batch size", "更小的批大小"),
    "try lower": ("a lower precision (precision=bf16)", "更低精度（precision=bf16）"),
    "try quantised": ("a quantised checkpoint", "量化后的权重"),
    "try cpu": ("device=cpu, which has the machine's memory", "device=cpu，使用主机内存"),
    "try log": ("worker.log in the folder of the run", "查看运行目录中的 worker.log"),
    "try resume": ("{command}", "{command}"),
    "try again": ("run the same command again", "重新运行同一命令"),
    "try": ("try", "可尝试"),
    "nothing": ("Nothing.", "无。"),
    "left out": ("{shown} of {all} runs are drawn.", "画出 {all} 次运行中的 {shown} 次。"),
    "selection": (
        "A figure of many runs shows the fastest run of each model, then the runs that no other run exceeds in both "
        "quality and throughput, then the fastest of the others. The table has more runs, and visionbench export has "
        "all.",
        "运行较多时，图中依次画出各模型中最快者、质量与吞吐量均未被超越者、其余中最快者；表中更多，visionbench export "
        "给出全部。",
    ),
    "listed": (
        "The tables and figures show {shown} of {all} runs, with {rows} of {cases} cases: the fastest run of each "
        "model, then the runs that no other run exceeds in both quality and throughput, then the fastest of the "
        "others. The recommendation, the counts and the causes of doubt are over all runs. visionbench export has all "
        "cases.",
        "表与图列出 {all} 次运行中的 {shown} 次（{cases} 个结果中的 {rows} 个）："
        "依次为各模型中最快者、质量与吞吐量均未被超越者、其余中最快者。"
        "推荐、计数与存疑原因涵盖全部运行；visionbench export 给出全部结果。",
    ),
    "more lines": ("… and {count} more", "……另有 {count} 条"),
    "all costs": ("Each precision against fp32 ({count})", "各精度与 fp32 相比（{count}）"),
    "unnamed": (
        "{count} points have no label, because it would cover others; on the HTML page, a tooltip shows the name.",
        "{count} 个点因会遮挡而未标注；HTML 页面中将鼠标移到点上可见名称。",
    ),
    "intervals": ("Intervals: 95 % of the median, {kind}.", "区间：中位数的 95 % 区间（{kind}）。"),
    "caption curves": (
        "Throughput and median latency of a batch over batch size; both axes are logarithmic.",
        "吞吐量与每批延迟中位数随批大小的变化（双对数轴）。",
    ),
    "across processes": ("across processes", "跨进程"),
    "within a process": ("within one process", "单进程内"),
    "caption loads": (
        "Requests arrive one by one, and the server forms batches. Latency counts from the scheduled arrival.",
        "请求逐个到达，服务端动态组批；延迟从计划到达时刻算起。",
    ),
    "caption distribution": (
        "The share of calls up to each latency, one curve per batch size, from raw samples.",
        "各批大小下，延迟不超过横轴值的调用占比，由原始样本绘制。",
    ),
    "caption memory": (
        "Peak memory at the largest batch size of each run. On a CPU the process also has Python and its libraries.",
        "每次运行最大批大小时的峰值内存。CPU 上进程还含 Python 与库。",
    ),
    "caption tradeoff": (
        "Quality with its 95 % interval over the largest throughput of each run. The line connects the runs that no "
        "other run exceeds in both quality and throughput; invalid runs are not on it.",
        "质量（附 95 % 区间）与各次运行最高吞吐量。折线连接两方面都未被超越者，不含无效的运行。",
    ),
    "caption stages": (
        "The time of each step of a batch, with all steps synchronised, at the largest batch size.",
        "每批时间的去向（各边界均同步），取最大批大小。",
    ),
    "caption roofline": (
        "Achieved rate (marks) under ceilings measured in the same process (lines).",
        "实测速率（点）与同一进程内实测上限（线）。",
    ),
    "printed": (
        "Made by visionbench {version} from the results of sweep {sweep}.",
        "由 visionbench {version} 根据批次 {sweep} 的结果生成。",
    ),
}
WORDS = {**advice_words.WORDS, **PAGE_WORDS}

TASKS = {
    "image-text retrieval": "图文检索",
    "promptable segmentation": "提示分割",
    "image captioning": "图像描述",
    "text about images": "图像问答与描述",
    "image classification": "图像分类",
    "object detection": "目标检测",
    "semantic segmentation": "语义分割",
    "depth estimation": "深度估计",
    "image features": "图像特征",
}
"""Names of tasks in Chinese. Other tasks keep their English name."""


CAUSES = {
    "paused": ("进程被暂停过", "不要暂停进程或休眠机器，检查可用内存后重新测量"),
    "busy cores": ("其他程序占用了处理器核心", "结束这些程序，用 visionbench doctor 检查后重新测量"),
    "steal": ("虚拟机管理器把核心分给了其他虚拟机", "换个时间或换台机器测量"),
    "parallel": ("其他运行同时使用这台机器", "需要可靠数字时，逐个运行测量"),
    "unsteady": (
        "调用耗时不平稳",
        "用 visionbench doctor 检查，并用 measure=standard 或 measure.repeats=5 测量",
    ),
    "few calls": ("调用次数太少，区间不够窄", "用 measure=standard 测量"),
    "clocks": ("GPU 降低了时钟频率", "改善散热，或固定较低的时钟频率"),
    "busy gpu": ("另一个进程在使用 GPU", "结束该进程，或选择其他 device.index"),
    "recompiled": ("torch 在计时窗口内编译", "用更长的预热测量"),
    "answers": ("模型的回答为空或对所有图片相同", "检查分词器、处理器与权重"),
    "processes": ("部分重复测量没有结果", "查看其目录 repeats/N"),
    "processes differ": (
        "重复测量的各进程之间有差异",
        "用 measure.repeats=5 或更多次、并用更长的 measure.warmup.min_seconds 测量",
    ),
    "clock": ("机器的时钟被改动过", "请看时长，不要看时刻"),
    "part of the data": ("质量只覆盖部分数据", "查看报告中的数量"),
}
"""The texts and the remedies of causes of doubt in Chinese, by `Cause.name`. Other causes are in English."""

GAPS = {
    missing.NEVER: "{share}从未开始：{names}",
    missing.ABSENT: "{share}没有结果（从未开始，或目录已被删除）：{names}",
    missing.ENDED: "{share}已丢失，因为进程过早结束：{names}",
    missing.CASES: "{names} 的 {total} 个结果中有 {cases} 个已丢失",
    missing.UNFINISHED: "{share}尚未结束，还有 {cases} 个结果未测量",
    missing.ELSEWHERE: "{names} 上的运行视为仍在进行，因为本机无法查看其他机器上的进程",
}
"""Sentences about missing results in Chinese, by `Gap.kind`."""
REASONS = {
    archive.NO_ROW: "运行已结束，但没有该结果",
    archive.NEVER_STARTED: "该运行从未开始",
    archive.NO_FOLDER: "该运行没有结果：从未开始，或目录已被删除",
}
"""Reasons of lost cases in Chinese. Other reasons are in English."""


def gap(one: Gap, language: str) -> str:
    """Return a sentence about missing results in a language."""
    if language != "zh":
        return one.sentence()
    shown, more = (one.names, 0) if one.kind == missing.ELSEWHERE else missing.first_names(one.names)
    names = "、".join(shown) + (f"，另有 {more} 次" if more else "")
    share = "该运行" if one.total == 1 else f"{one.total} 次运行中有 {len(one.names)} 次"
    return GAPS[one.kind].format(share=share, names=names, total=one.total, cases=one.cases)


def reason(text: str | None, language: str) -> str:
    """Return the reason of a case without numbers in a language."""
    english = text or ""
    return REASONS.get(english, english) if language == "zh" else english


def cause(one: Cause, language: str) -> tuple[str, str]:
    """Return the text and the remedy of a cause of doubt in a language."""
    english = (one.text, one.remedy)
    return CAUSES.get(one.name, english) if language == "zh" else english


def doubts(counted: Doubts, language: str) -> str:
    """Return one sentence with the counts, the causes and the next step in a language; empty if there is no doubt."""
    sentence = counted.sentence()
    if language != "zh" or not sentence:
        return sentence[:1].upper() + sentence[1:]
    shown = [(cause(one, language), count) for one, count in counted.causes[:MOST_CAUSES]]
    causes = "，".join(f"{text}（{count}）" for (text, _), count in shown)
    remedy = shown[0][0][1] if shown else "见报告"
    counts = f"{counted.cases} 个结果中 {counted.invalid} 个无效、{counted.questionable} 个存疑"
    return f"{counts}：{causes}；{remedy}"


def check(language: str, option: str) -> str:
    """Return the language if it is known. Raises ConfigError with the name of the option."""
    if language not in LANGUAGES:
        raise ConfigError(f"{option}={language}: there is no report in this language{nearest(language, LANGUAGES)}")
    return language


def translate(key: str, language: str, **fields: object) -> str:
    """Return the text of a key in a language, with its fields filled in."""
    return WORDS[key][list(LANGUAGES).index(language)].format(**fields)


def task(name: str, language: str) -> str:
    """Return the name of a task in a language."""
    return TASKS.get(name, name) if language == "zh" else name
