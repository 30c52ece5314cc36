"""The key that a user probably means by an unknown one: by the names that other trainers use, then by spelling."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from serx.augment.transform import SpectrogramTransform, WaveformTransform, registered_transforms
from serx.config.schema import Config, dotted_keys

# Names of other trainers (PyTorch Lightning, Hugging Face, timm, SpeechBrain, scikit-learn, torchaudio, librosa) and
# what they are here. A key is looked up by its last part without "_", "-", spaces and capitals.
_NAMES = {
    "optim.lr": "lr learningrate baselr maxlr initlr lrmax eta eta0 rate learnrate",
    "optim.weight_decay": "weightdecay wd decay l2 l2reg l2penalty regularization",
    "optim.betas": "beta beta1 beta2 adambeta1 adambeta2 adambetas momentum",
    "optim.schedule": "schedule scheduler lrscheduler lrschedule lrschedulertype sched schedulertype",
    "optim.warmup_ratio": "warmup warmupratio warmupsteps numwarmupsteps warmupepochs pctstart warmupfraction lrwarmup",
    "optim.final_lr_ratio": "finallr minlr etamin lrmin endlr finaldivfactor lrf lrend",
    "optim.plateau_factor": "lrfactor factor lrgamma stepgamma lrdecay",
    "optim.plateau_patience": "lrpatience schedulerpatience patiencelr",
    "train.epochs": "epochs epoch nepochs numepochs maxepochs numtrainepochs nepoch maxepoch trainepochs iterations "
    "maxsteps nsteps numsteps totalsteps steps maxiters niter",
    "train.batch_size": "bs batchsize batch minibatch minibatchsize trainbatchsize perdevicetrainbatchsize nbatch",
    "train.accumulation_steps": "gradientaccumulationsteps accumulategradbatches gradaccum gradaccumulation accumsteps "
    "accumulate gradaccumsteps accumulation",
    "train.precision": "precision mixedprecision amp useamp fp16 bf16 fp32 half float16 bfloat16 autocast ampdtype",
    "train.patience": "patience earlystopping earlystop earlystoppingpatience espatience earlystoppatience",
    "train.select": "metric metrics monitor metricforbestmodel monitormetric savebest bestmetric checkpointmetric "
    "earlystoppingmetric selection",
    "train.device": "device gpu gpus cuda usecuda usegpu accelerator devices gpuid cpu mps deviceid",
    "train.threads": "threads nthreads numthreads workers numworkers nworkers njobs nproc numproc dataloaderworkers",
    "train.seed": "seed randomseed randomstate manualseed rng rngseed torchseed",
    "train.clip_grad_norm": "clipgradnorm maxgradnorm gradclip gradientclip clipgrad gradientclipval clipnorm clip "
    "gradientclipping clipvalue",
    "train.ema_decay": "ema emadecay modelema swa useema averaging emamomentum",
    "train.label_smoothing": "labelsmoothing smoothing labelsmooth labelsmoothingfactor smooth",
    "train.class_weights": "classweights classweight weightedloss balancedloss lossweights posweight",
    "train.sampling": "sampler weightedsampler oversampling oversample weightedrandomsampler balance balancedsampling",
    "train.compile": "compile torchcompile jit",
    "train.deterministic": "deterministic cudnndeterministic reproducible deterministicalgorithms",
    "train.output": "output out outdir outputdir outputfolder outputpath savedir savepath savefolder logdir rundir "
    "checkpointdir checkpointpath ckptdir ckptpath resultsdir experimentdir expdir workdir logs saveto modeldir",
    "train.loggers": "loggers logger tensorboard tb wandb usewandb usetensorboard mlflow reportto logging tracker",
    "train.teachers": "teachers teacher teachermodel distill distillation kd knowledgedistillation",
    "train.teacher_weight": "teacherweight kdweight distillweight distillationweight kdalpha",
    "train.teacher_temperature": "teachertemperature kdtemperature distilltemperature",
    "train.init_from": "initfrom init initcheckpoint pretrainedweights weights loadfrom loadweights warmstart "
    "pretrainedcheckpoint finetunefrom",
    "data.root": "root path dir datadir datapath datasetpath dataset datasetdir dataroot folder corpus corpora folders "
    "audiodir audiopath traindir wavdir rootdir datafolder inputdir",
    "data.cache": "cachedir cachepath cachefolder",
    "data.placement": "pinmemory inmemory preload cachedata loadinmemory",
    "data.protocol": "protocol split splits splittype cv crossvalidation splitmethod loso kfold holdout",
    "data.folds": "nfolds numfolds kfolds k nsplits numsplits",
    "data.fold": "foldid foldindex testfold foldnumber",
    "data.test_fraction": "testfraction testsize testsplit testratio testshare",
    "data.valid_fraction": "validfraction validationsplit valsplit valsize valratio valfraction validsize "
    "validationsize validratio validationfraction valpercent devsize validsplit",
    "data.labels": "labels classes classnames emotions targets labelnames categories numclasses nclasses",
    "data.label_map": "labelmap labelmapping classmap mapping mergeclasses emotionmap",
    "data.sample_rate": "sr samplerate samplingrate fs samplingfrequency samplefrequency targetsr targetsamplerate "
    "resample",
    "data.trim_db": "trim trimsilence trimdb trimtopdb vad silence",
    "data.duration_seconds": "duration maxduration cliplength clipduration",
    "data.max_seconds": "maxlength maxlen maxseconds maxaudiolength maxaudiolen",
    "data.min_seconds": "minlength minlen minduration minseconds minaudiolength",
    "data.offset_seconds": "offset startoffset skip",
    "features.stack": "stack feature features featuretype inputtype inputs representation featureextractor",
    "features.n_mels": "nmels nmel nummels melbins nummelbins nmelbins mels nfilters nfilt",
    "features.n_mfcc": "nmfcc mfcc nummfcc nmfccs numceps nceps mfccs numcep",
    "features.n_fft": "nfft fftsize fft windowsize framelength framesize fftlength",
    "features.win_length": "winlength windowlength winsize win framewidth",
    "features.hop_length": "hoplength hop hopsize stride frameshift framestep hopsamples frameperiod",
    "features.f_min": "fmin lowfreq lowfrequency lowerfrequency freqmin",
    "features.f_max": "fmax highfreq highfrequency upperfrequency freqmax",
    "features.top_db": "topdb dynamicrange",
    "features.deltas": "delta deltas usedeltas adddeltas deltadelta derivatives",
    "features.normalize": "normalize normalization norm standardize cmvn scaler standardscaler normalise meannorm",
    "features.statistics": "statistics stats functionals aggregate aggregation pooling",
    "augment.waveform": "augment augmentation augmentations augmentationlist transforms dataaugmentation waveaugment "
    "augs waveformaugment audioaugment useaugmentation",
    "augment.spectrogram": "specaugment specaug spectrogramaugment spectrogramtransforms masking",
    "augment.mixup": "mixup mixupalpha",
    "augment.cutmix": "cutmix cutmixalpha",
    "model.kind": "model modelname modeltype arch architecture backbone network net name type classname",
    "model.dropout": "dropout dropoutrate dropoutp drop droprate dropoutprob pdrop",
    "model.widths": "widths hidden hiddensize hiddendim hiddenunits hiddenlayers channels numfilters layers units "
    "hiddenlayersizes layersizes nhidden numlayers filters",
    "model.kernel": "kernel kernelsize ksize",
    "model.ensemble_size": "ensemble ensemblesize nmodels numensemble nestimators members",
    "model.tta_speeds": "tta testtimeaugmentation ttaspeeds",
    "model.tta_shifts": "ttashifts shiftinvariance antialiasing blurpool",
    "model.pretrained": "pretrained usepretrained imagenet",
    "model.source": "bundle encoder pretrainedmodel wav2vec2 hubert wavlm encodername",
    "model.tune": "tune finetune freeze freezeencoder frozen unfreeze",
    "model.lora_rank": "lorar lorarank lora peft",
    "model.lora_alpha": "loraalpha",
    "model.c": "regularizationstrength",
}
_WORDS: dict[str, list[str]] = {}
for _key, _words in _NAMES.items():
    for _word in _words.split():
        _WORDS.setdefault(_word, []).append(_key)
# Names that mean something else within one section.
_IN_SECTION = {
    "features": dict.fromkeys(("name", "kind", "type"), "features.stack"),
    "data": {**dict.fromkeys(("name", "kind", "type"), "data.corpora"), "kfold": "data.protocol"},
    "train": dict.fromkeys(("pretrained", "checkpoint", "ckpt"), "train.init_from"),
}
# What serx always does in one way: other trainers let it be chosen.
_ADAMW = "serx trains with AdamW; its settings are optim.lr, optim.betas and optim.weight_decay"
_LOSS = "the loss is cross-entropy; see train.label_smoothing, train.class_weights and train.logit_adjustment"
_RESUME = "write --resume on the command line, or resume=True in serx.fit"
_FIXED = {
    **dict.fromkeys(("optimizer", "optimiser", "optimizername", "optim", "opt", "opttype"), _ADAMW),
    **dict.fromkeys(("loss", "lossfunction", "lossfn", "losstype", "criterion"), _LOSS),
    **dict.fromkeys(("resume", "resumefrom", "resumefromcheckpoint"), _RESUME),
    "shuffle": "clips are shuffled in every epoch; train.sampling chooses how often each of them comes",
    "overwrite": "write --overwrite on the command line, or overwrite=True in serx.fit",
    "stepsize": "the learning rate is optim.lr; the step between frames is features.hop_length",
    "activation": "every network has ReLU",
    "window": "frames have a Hann window of features.win_length samples",
}
_SECTIONS = {
    "data": "dataset datasets corpus corpora audio split splits",
    "features": "feature frontend spectrogram mel preprocessing inputs",
    "augment": "augmentation augmentations augs transforms specaugment",
    "model": "network net arch architecture backbone",
    "optim": "optimizer optimiser optimization opt scheduler lrscheduler adamw",
    "train": "training trainer trainingargs trainingarguments fit loop experiment run",
}
_SAME, _ALIKE = 0.85, 0.72  # similarity of two spellings: surely the same word; probably


def suggestion(name: str, kinds: Sequence[str], value: Any = None) -> str:
    """The end of an error about an unknown key: what was probably meant, else the keys of its section.

    In this order: a key of the section with nearly that spelling, the key of that name in another section, a name that
    other trainers use, and keys with a similar spelling. Keys of another kind of model or transform than `kinds` are
    not suggested. Where nothing is near enough, the keys of the section are listed.

    Args:
        name: the unknown key with its section, such as `optim.learning_rate`.
        kinds: of the model or the transform that the key was given to.
        value: that was given.

    >>> suggestion("optim.learning_rate", ())
    '; did you mean optim.lr?'
    >>> suggestion("train.epochz", ())
    '; did you mean train.epochs?'
    """
    keys = dotted_keys(Config, kinds=kinds)
    section, _, last = ".".join(part for part in name.split(".") if not part.isdigit())[:200].rpartition(".")
    if not section and isinstance(value, Mapping):
        return f"; {_of_section(last)}"
    return f"; {_of_key(section, last, keys, isinstance(value, list | tuple))}"


def _of_section(name: str) -> str:
    sections = list(Config.model_fields)
    meant = [section for section, words in _SECTIONS.items() if _plain(name) in words.split()]
    near = (meant + difflib.get_close_matches(name, sections, n=1, cutoff=_ALIKE))[:1]
    return f"did you mean {near[0]}?" if near else f"known sections are {', '.join(sections)}"


def _of_key(section: str, last: str, keys: Sequence[str], is_list: bool) -> str:
    inside = [key for key in keys if section and key.rpartition(".")[0] == section]
    similar = _similar(last, inside)
    found = [key for key in similar if _ratio(last, key) >= _SAME]
    if "." not in section:  # the keys of a transform have other meanings
        fixed = _fixed(section, last)
        if fixed and not found:
            return fixed
        plain = [key for key in keys if key.count(".") == 1]
        meant = _IN_SECTION.get(section, {}).get(_plain(last))
        found = [meant, *found] if meant else found
        found += [key for key in plain if key.endswith(f".{last}")]
        found += [key for key in _WORDS.get(_plain(last), ()) if key in keys]
        similar += [key for key in plain if _ratio(last, key) >= _SAME]
    best = next(iter(found + similar), "")
    if best == "augment.waveform" and not is_list:
        return "did you mean augment.waveform, a list such as [{kind: noise, p: 0.5}]?"
    if best:
        return f"did you mean {best}?"
    if inside:
        return f"the keys of {section} are {', '.join(key.rpartition('.')[2] for key in inside)}"
    return f"known sections are {', '.join(Config.model_fields)}"


def _fixed(section: str, last: str) -> str | None:
    """What is no key of serx under any name, and what to do instead."""
    if section == "optim" and _plain(last) in ("name", "kind", "type"):
        return _ADAMW
    for base, part in ((WaveformTransform, "waveform"), (SpectrogramTransform, "spectrogram")):
        if section == "augment" and last in registered_transforms(base):
            return f"write it as an item of augment.{part}: [{{kind: {last}, p: 0.5}}]"
    return _FIXED.get(_plain(last))


def _plain(text: str) -> str:
    return text.lower().replace("_", "").replace("-", "").replace(" ", "")


def _similar(last: str, keys: Sequence[str]) -> list[str]:
    """The keys whose last part is spelled like `last`, the nearest first."""
    near = [key for key in keys if _ratio(last, key) >= _ALIKE]
    return sorted(near, key=lambda key: -_ratio(last, key))


def _ratio(last: str, key: str) -> float:
    """The similarity of `last` and the last part of a key, from 0 to 1; 0.8 where one is the other's beginning."""
    end = key.rpartition(".")[2]
    short, long = sorted((last, end), key=len)
    begins = bool(short) and long.startswith(short) and (len(short) > 2 or len(long) == len(short) + 1)
    swapped = sorted(last) == sorted(end)  # `rl` for `lr`, which share one letter in a row only
    return max(difflib.SequenceMatcher(None, last, end).ratio(), 0.8 if begins else 0.0, 0.9 if swapped else 0.0)
