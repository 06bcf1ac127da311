"""What instructions that do not belong in a text look like: cues, each with a weight and the expressions that show it.

A cue counts once however often it occurs. 1.0 is the default threshold: what overrides instructions outright reaches it
alone, everything else needs company, because honest people also write "ignore", "pretend" and "system prompt".
Expressions are in hyperscan's dialect and run over `View.words` or `View.marks`, folded and lower-case; `W{n}` stands for
up to n words.
"""

from typing import Final

from policies.airlock.labels import Label
from policies.firewall_cue import Cue

_LABEL = "(" + "|".join(label.value.lower().replace("_", "[_-]") for label in Label) + ")"


_OVERRIDE = "(ignore|ignoring|disregard|disregarding|forget|override|overriding|bypass|neglect|skip|erase|drop|dismiss)"
_EARLIER = "(previous|prior|preceding|above|earlier|existing|initial|original|former|foregoing|past|old|current|given|provided)"
_ORDERS = (
    "(instructions?|prompts?|directions?|directives?|orders?|commands?|rules|guidelines?|guidance|guardrails|policies|"
    "programming|training|context|tasks?|assignments?|constraints|restrictions|filters?|safeguards|documents|messages?|"
    "conversations?|requests?)"
)
_SECRETS = (
    "(system prompts?|system messages?|initial prompts?|hidden prompts?|full prompts?|entire prompts?|prompt texts?|"
    "original prompts?|your prompts?|above prompts?|system instructions?|your instructions|initial instructions|"
    "your (full |complete |exact )?(configuration|rules)|pre prompt)"
)
_REVEAL = "(reveal|show|print|output|repeat|display|leak|dump|expose|copy|recite|spell)"
_TELL = (
    "(tell me|give me|write|return|summari[sz]e|list|translate|describe|explain|paraphrase|share|say|what do|what does)"
)
_LAWLESS = (
    "(illegal|unethical|immoral|amoral|harmful|dangerous|unlawful|forbidden|offensive|discriminatory|explicit|malicious|"
    "malware|violent|inappropriate)"
)
_ANSWER = (
    "(answers?|responses?|repl(y|ies)|output|solutions?|code|codebase|algorithms?|implementation|program|script|summary|"
    "coding)"
)
_BLEND = (
    "(add|include|including|inclusion|incorporate|insert|inserting|embed|embedding|merge|blend|blending|enhance|integrate|append|mention|"
    "mentioning|weave|place|integrating|upgrade|augment|evolve|ascend|improve|develop|boost|feature|featured|fuse|infuse|introduce|"
    "introducing|addition|promote|recommend|referencing|advertise|endorse|implant|attach|combine|apply|employ|utilize|injecting|inject)"
)

# An optimiser's suffix: scraps of markup, code and prose that nobody writes side by side.
_SCRAP = r"(\]\(|\\!--|\\ ?\+|\*\*[a-z]+ ?\?|\{\\|\}\}|\$\$|%%|;\)|\)\(|! ! |\|\| ?\*\*|== ?[a-z]+ [a-z]+ with|:\)[a-z]|\.\]|\?\]|\(\\|\\\\_)"

PHRASES: Final[tuple[Cue, ...]] = (
    # --- somebody takes the instructions away ---
    Cue(
        "override",
        1.0,
        (
            " pay no (attention|heed|mind) to W{3}(guidelines?|instructions?|rules|above|previous|prompts?|policies|system) ",
            " (ignore|disregard) (what|whatever|everything|all) (that )?(they|he|she|anyone|anybody|the system|your (developers?|creators?|makers?|operators?|owners?)) ",
            " forget (what|whatever|everything|all) (that )?(they|he|she|the system|your (developers?|creators?|makers?|operators?|owners?)) (have |ve |has )?(told|taught|instructed) you ",
            f" {_OVERRIDE} W{{2}}(all|any|every|everything|each) W{{3}}{_EARLIER} W{{3}}{_ORDERS} ",
            (
                f" {_OVERRIDE} (all |any |the |your |my |these |those |of |about |both ){{0,4}}{_EARLIER} "
                f"(and (the )?(following|above|below|previous|subsequent) )?W{{1}}{_ORDERS} "
            ),
            f" {_OVERRIDE} (about )?(all|any) (of )?(the |your |my |these |those )?{_ORDERS} ",
            f" {_OVERRIDE} (the |all |your ){{1,3}}W{{2}}{_ORDERS} (above|before|earlier|you (got|received|were given)|given|so far) ",
            (
                " (forget|ignore|disregard|erase) (about )?(everything|all|anything) "
                "(above|before|prior|previous|that|you|i|we|said|written|else|and|from|so far|told|now|in) "
            ),
            " (forget|ignore|disregard) (everything|anything) W{4}(write|say|tell|instead|now|print|respond) ",
            " (forget|ignore) (what|whatever|everything|all) (that )?(you|i|we) (have |ve |were |had |just )?(told|said|been|learned|discussed|know|talked) ",
            (
                " (do not|don t|dont|stop|never) (follow|following|obey|obeying|listen to|listening to|adhere to|comply with) "
                f"W{{2}}({_EARLIER} W{{1}}|your |my |any |the ){_ORDERS} "
            ),
            " (ignore|disregard|override|forget) (the |this |that )?(user s|users|user|human s|customer s) (question|request|query|prompt|message|input|instructions?) ",
            " (ignore|disregard) W{1}(provided|given|above) W{3}(context|documents?|arti[ck]el?s|text|information) ",
            " (override|ignore|disregard|bypass|forget) your (own )?(current |safety |original |previous )?(programming|instructions?|rules|guidelines|training|directives?|constraints|filters?|restrictions) ",
            " (new|updated|revised|real|actual|true) (system )?(instructions?|prompt|directive|orders) (follow|follows|are|is|below|begin|now|supersede|override) ",
            " (instructions?|rules|guidelines) W{4}(no longer|do not|don t) (apply|count|valid|matter) ",
        ),
    ),
    Cue(
        "override-other-languages",
        1.0,
        (
            " (ignoriere?n?|vergesse?n?|vergiss) (sie |nun |jetzt |bitte |mal |einfach ){0,3}(deine|ihre|eure|alle|jegliche|samtliche) W{3}(anweisung(en)?|vorgaben?|regeln|instruktion(en)?|befehle?|richtlinien) ",
            " (ignoriere?n?|vergesse?n?|vergiss) (sie |nun |jetzt |bitte |mal ){0,3}(alles )?was (vorher|zuvor|bisher|davor|oben|ich|du|wir|man|ihnen|dir) ",
            " (verrate?n?|nenne?n?|zeige?n?|gib|geben|sage?n?) W{4}(geheim|system|versteckt)[a-z]* ?(prompt|anweisung(en)?|vorgaben?|befehle?|nachricht) ",
            " (ignora|olvida|ignore|esquece|oublie) W{2}(lo|tudo|tout|todo) (lo )?(anterior|antes|que (te|le|se|fue|vino|hay)|ce qui (precede|t a|vous a|a ete)|o que (te|foi|veio|voce)) ",
            " (zaboravi(te)?|zanemari(te)?|ignoriraj(te)?) (sve |sva |svoje )?(prethodne?|ranije|upute|instrukcije|naredbe|uputstva) ",
            # German
            (
                " (ignoriere?n?|vergesse?n?|vergi(ss|sst|ß)|missachten?|verwirf|uberspringe?) (sie |nun |jetzt |bitte |mal )?(alle?s?r?n?|die|das|deine|ihre|jegliche|samtliche) "
                "W{4}(anweisung(en)?|befehle?n?|auftrage?n?|instruktion(en)?|aufgaben?|vorgaben?|regeln|zuweisungen|gesagte[ns]?|davor|vorher|bisherige[ns]?|zuvor|oben|prompts?|eingaben?) "
            ),
            " (vergiss|vergesst|vergessen sie|ignoriere?) (alles|das alles) ",
            # Spanish, Portuguese, Italian, French
            (
                " (ignora|ignore|ignorar|olvida|olvide|olvidate|esquece?|esqueca|dimentica|oublie[rz]?|ignorez|desconsidere?) (de )?(por favor )?(todas?|todos?|todo|tudo|tutt[eio]|tout(es)?|tous|las|los|les|le|as|os) "
                "W{4}(instruc+iones|instrucoes|istruzioni|instructions?|ordenes|ordens|ordini|ordres|indicaciones|consignes|reglas|regras|regole|regles|anterior(es)?|precedent[ei]?s?|previas?|lo|mensajes|comandos) "
            ),
            " (olvida|esquece|dimentica|oublie[rz]?|olvidate de) (todo|tudo|tutto|tout) ",
            # Russian, Dutch, Polish, Serbian/Croatian
            " (игнорируи(те)?|забудь(те)?|проигнорируи(те)?) W{3}(инструкции|указания|команды|все|всё|правила) ",
            " (negeer|vergeet) (alle|alles|de|je) ",
            " (zignoruj|zapomnij|ignoruj) (wszystkie|wszystko|o wszystkim|poprzednie) ",
            " (zaboravi|zanemari|ignorisi|ignoriraj) (sve|sva|svoje|prethodne) ",
            # Chinese, Japanese, Korean
            "(忽略|无视|忘记|忘掉|不要理会).{0,24}(指令|指示|提示|规则|说明|之前|以上|上面)",
            "(無視|忘れて).{0,24}(指示|命令|プロンプト|ルール)|(指示|命令|プロンプト|ルール).{0,24}(無視|忘れて)",
            # Hangul is decomposed by the folding: 무시, 잊
            "(지시|명령|프롬프트).{0,24}무시",
        ),
    ),
    Cue(
        "override-joined",
        1.0,
        (
            "(ignore|disregard|forget|override)(all|the|any|your){0,2}(previous|prior|above|earlier|preceding|instructions|rules)",
        ),
    ),
    Cue(
        "start-over",
        0.7,
        (
            " (the|your|my) (real|actual|true) (task|question|request|instructions?|goal|prompt|job|order)s? ",
            " (the )?(above|previous|earlier|preceding) (text |message |prompt |request )?(was|were|is) (only |just )?(a )?(test|fake|joke|wrong|example|distraction) ",
            " (do not|don t|dont|never mind|instead of) (translate|translating|summari[sz]e|summari[sz]ing|answer|answering|classify|complete|continue) W{5}(say|write|print|output|respond|reply|tell|instead) ",
            " (now|next) (comes? |focus(ing)? |concentrate |here is |here are )?(on )?(your |the |a )?(new|next|real|actual) (tasks?|assignments?|instructions?|role|identity) ",
            " (neue|nachste|neuen|nachsten) (aufgaben?|auftrage?|anweisung(en)?) ",
            " start(ing)? (over|afresh|with a new (assignment|task|role)) ",
            " (forget|ignore|disregard) W{5}(and )?instead (output|say|print|write|tell|respond|give|answer) ",
            " (stop|stopp|halt|nevermind|never mind) (ignore|ignoriere|forget|vergiss|now|disregard) ",
            " (ignore|disregard|forget) (it|this|that|them|me|him) (all )?(and|instead|now) ",
        ),
    ),
    Cue(
        "instead",
        0.3,
        (
            " (say|write|print|output|reply|respond|compose|tell me|give me) W{10}instead ",
            " instead (compose|create|make|do|tell|give|produce|generate) ",
            " (instead|rather|just|only|simply|stattdessen|nur|jetzt|nun|now) (output|say|print|write|respond|reply|answer|tell|geben|schreibe?|sag|schreib|zeige?) ",
            " (output|print|say|respond with|reply with|write) (only|just|exactly|nothing but) ",
            " (and|und) (just|only|nur) (say|print|write|schreibe?|output|tell) ",
        ),
    ),
    # --- somebody wants what is not theirs ---
    Cue(
        "reveal-prompt",
        1.0,
        (
            " (repeat|print|output|copy|quote|say|echo|recite|write) W{4}(words|text|lines?|everything|sentences?|message) (that )?(start(s|ing)?|begin(s|ning)?) (with|from) ",
            " (text|words|everything|anything|content|message) between the (beginning|start) of (this|the|our) (conversation|chat|session) ",
            " (told|given|said|instructed|written|provided) W{3}(before|prior to|at the (start|beginning) of|ahead of) (this|the|our|my first) (conversation|chat|session|message|dialogue) ",
            f" {_REVEAL} W{{5}}{_SECRETS} ",
            " (what|which) (is|are|was|were) your (exact |full |original |initial |hidden |secret ){0,2}(system prompt|system message|instructions|initial prompt|prompt text) ",
            " (copy|repeat|print|output|say|recite|write|echo|show) (of )?(the |all |me |everything ){0,3}(text|words|content|lines?|messages?|everything|full prompt|instructions) (above|before this|previously|preceding) ",
            " (zeige?n?|gib|geben|drucke?|wiederhole?n?|nenne?) W{4}(prompt text(e|es)?|prompttexte?s?|systemprompt|system prompt|anweisungen|folgenden texte) ",
            " (repeat|output|print|reveal) W{4}(verbatim|word for word) ",
            " show (me )?(all )?(the |your )?(following texts|prompts?|prompt texts?) ",
        ),
    ),
    Cue(
        "ask-for-prompt",
        0.8,
        (
            " (translate|repeat|summari[sz]e|show|encode|rewrite|output) (everything|all( of)?( the)? (text|words|content)?|the (whole|entire) (text|message|conversation)) (above|before this|so far|up to here) ",
            f" {_TELL} W{{3}}(your|the above|the hidden|the initial|the original) (full |exact |initial |hidden )?(system prompt|system message|instructions|initial prompt|prompt|rules) ",
            " what (do )?your instructions (say|are) ",
        ),
    ),
    Cue(
        "system-prompt",
        0.2,
        (" (system|hidden|initial|secret) (prompt|message|instruction)s? ", " prompt text(e|s|es)? "),
    ),
    Cue(
        "token",
        0.7,
        (
            rf"\[{_LABEL}[_-][0-9a-z]{{6}}\]",
            r"[a-z](\s[a-z]){2,12}\s_\s[0-9a-z](\s[0-9a-z]){3,8}",
        ),
        marks=True,
    ),
    Cue(
        "token-wanted",
        0.3,
        (
            " (https?|image|img|url|link|markdown|curl|webhook) ",
            " (print|reveal|show|tell|say|emit|spell|decode|resolve|restore|expand|output|guess|put|send|post|call|append|insert|write|unmask|translate|encode|embed|concatenate|repeat) ",
            " (real|original|true|actual|underlying|unmasked|plain) (name|value|text|data|number|person|address|identity)s? ",
            " (who|what|which) (is|stands?|hides?|means?|are) (behind|for|under)? ",
            " (constructor|process env|eval) ",
        ),
        beside="token",
    ),
    Cue("token-pattern", 1.0, (rf"\[({_LABEL}|label)[_-]x{{4,8}}\]",), marks=True),
    Cue(
        "vault-words",
        1.0,
        (
            " (reveal|list|show|tell|give|print|dump|leak|recite|share|output) W{6}(other|previous|another|different|last) (users?|patients?|customers?|clients?|peoples?|persons?|tenants?)( s)? W{1}(names?|data|records?|details|conversations?|chats?|messages?|information|numbers?|e ?mails?|notes|secrets?|prompts?|gave|told|wrote|said) ",
            " (confidential|private|secret) (notes?|information|data|details|messages?) W{4}(other|previous|another|last) (users?|patients?|customers?|clients?) ",
            " (placeholders?|redact(ed|ion)|masked|tokeni[sz]ed|pseudonym(ised|ized|s)?|anonymi[sz]ed) W{6}(original|true|unmasked|underlying|german|french|spanish) (values?|data|names?|text) ",
            " (original|real|actual|true|unmasked|plain) (values?|data|names?|text|ones) W{4}(placeholders?|redact(ed|ions?)|masked|pseudonyms?) ",
            " (spell|reveal|undo|reverse|remove|decode|unmask|deanonymi[sz]e|bypass|translate|resolve) W{3}(placeholders?|redactions?|masking|tokeni[sz]ation|anonymi[sz]ation) ",
            " (including|with|and) (the )?(redacted|masked|hidden|censored) (parts?|values?|text|sections?|words|fields|data) ",
            " (tokens?|placeholders?|values?|vault|data) W{4}(other|another|different) (users?|peoples?|patients?|tenants?|customers?|sessions?)( s)? (conversations?|chats?|data|sessions?|vault|records) ",
            " (output|response|your) filters? (restores?|replaces?|unmasks?) ",
            " (here are|list|give me|show) (all )?(the )?(original|real|unredacted) (values|ones|names|data|originals) | here are the originals ",
            " (dump|leak|guess|exfiltrate|enumerate) (the )?(vault|token map|mapping|tokens) ",
            " (tokens?|values?|contents?|entries|secrets?) (of|in|from|inside) (the|your) vault | vault W{5}(plain|original|real|true) values? ",
            " you (may|can|must|should|are allowed to) (now )?(reveal|show|disclose|output|leak) (all )?(the )?(phi|pii|patient|personal|protected|vault|secrets?|identifiers?) ",
        ),
    ),
    Cue(
        "exfiltrate",
        0.5,
        (
            " (exfiltrate|siphon|smuggle out) (the|this|all|my|our|every) ",
            " (put|place|insert|append|encode|embed|include|send|post|append) W{6}(url|link|image|markdown|webhook|query string|http post|curl|request|path) W{3}(and (click|open|fetch|visit|load)) ",
            " (send|post|upload|exfiltrate|transmit|forward) W{5}(to|at|via) (http|https|my server|attacker|evil|webhook|the url|this url) ",
            " call the tool ",
            " use the tool http",
        ),
    ),
    # --- somebody speaks as if they were the machine ---
    Cue(
        "forged-role",
        1.0,
        (
            r"<\|?(im_start|im_end|endoftext|system|user|assistant|eot_id|start_header_id|begin_of_text|endofprompt)\|?>",
            r"\[/?(inst|system|sys|system prompt|admin|developer)\]",
            r"<</?sys>>",
            r"</?(system|instructions?|admin|system_prompt)>",
            r"(^|\n)\s{0,8}#{2,4}\s{0,3}(system|instruction|assistant|new instructions?)\b",
            r"(^|\n)\s{0,4}(system|developer|admin)\s{0,2}(prompt|message|override|note|instruction)?\s{0,2}[:>]",
            r"</s>",
            r"\[/?system[^\]\n]{0,20}\]",
            "admin_override",
            r"\bend of (system )?(prompt|instructions)\b",
        ),
        marks=True,
    ),
    Cue(
        "forged-answer",
        0.7,
        (
            r"(^|\n)\s{0,4}(assistant|ai|bot|chatgpt|gpt|claude)\s{0,2}:\s{0,3}(sure|of course|okay|ok|yes|certainly|absolutely|here)",
            r"(begin|start|starts?|preface|respond|reply|answer|commence)[^\n]{0,60}(with|by)[^\n]{0,30}[\"'\[(*<]{0,2}((sure|of course|absolutely|certainly|yes)[,!]|(sure thing|sure here|sure i|here('s| is| are)) )",
            r"(1024|2048|4096|[0-9]{1,5}-(128|256|512))\s{0,4}\|[^\n]{0,80}(answer|respond|reply|say)",
        ),
        marks=True,
    ),
    Cue(
        "priority",
        0.8,
        (
            r"(important|urgent|attention|warning|notice|critical|note to (the )?(ai|assistant|model|llm))\s{0,3}[:!]{1,3}\s{0,3}(before|prior|first|when|instead|while|do not|you must|your|the (assistant|ai|model))[a-z ,]{0,40}(answer|respond|reply|summari|continu|proceed|process|output)",
        ),
        marks=True,
    ),
    # --- a document gives orders to its reader ---
    Cue(
        "document",
        0.25,
        (
            r"(following|this|attached|below|given)\s{1,3}(document|text|article|e-?mail|page|report|passage|content|file|message|table|code|context|snippet|transcript|webpage|website|review)[^\n]{0,60}[:\n]\s{0,4}(\"{3}|'{3}|`{3}|<|-{3,}|={3,}|\[)",
            r"\n\s{0,4}\"{3}\s{0,4}$",
        ),
        marks=True,
    ),
    Cue(
        "to-the-machine",
        0.8,
        (
            " (note|ps|p s|message|attention|instructions?|reminder|hint|memo|request) (to|for) (the |any |all )?(ai|assistant|translator|model|llm|chatbot|summari[sz]er|bot|language model|reviewer|classifier|agent)s? ",
            " (ai|ai assistants?|assistants?|language models?|llms?|chatbots?|bots|ai models?|agents?) (reading|processing|summari[sz]ing|parsing|seeing|that reads?|who reads?) (this|these|the) ",
            " if you (are|re) (an? )?(ai|language model|llm|bot|assistant|chatbot) ",
        ),
    ),
    Cue(
        "orders-to-the-answer",
        0.8,
        (
            f" {_BLEND} W{{16}}(in|into|within|inside|to|with|of|for|at|throughout|on) (your|the) (own )?(final |generated |current |coding )?{_ANSWER} ",
            f" {_BLEND} (your|the) (own )?(answer|response|reply|output|solution|code|codebase|algorithm|implementation) (s )?W{{3}}(by|with|via|through|using) ",
            " (assistant|chatbot|llm|language model|ai|ai model|gpt|claude|chatgpt) (please |must |should |has to |needs to |now )?(also )?(end|start|begin|add|say|tell|mention|recommend|include|respond|reply|answer|output|write|ignore|click|visit|send) ",
            " (end|begin|start|finish|close|conclude|preface) (your|the|every|each|all) (response|answer|reply|summary|output|message)s? (with|by) ",
            " when(ever)? (you )?(are )?(answering|summari[sz]ing|responding|replying|translating|reading|processing|(answer|summari[sz]e|respond|reply|translate|read|process)) (this|the|to|it|about|also|please|mention|say|add|include|state|claim|tell|recommend)W{8} (mention|say|add|include|state|claim|tell|recommend|promote|ignore|write|output|use) ",
            " when(ever)? (you )?(are )?(answering|summari[sz]ing|responding|replying|translating) (mention|say|add|include|state|claim|tell|recommend|promote|ignore|write|output|use) ",
            f" your (answer|response|reply|output|solution|code|codebase|algorithm|implementation) W{{6}}{_BLEND} ",
            " (reverse|encode|encrypt|translate|write|convert|respond|reply|answer|give|provide|deliver|express|present|compose|output|format|represent|scramble|randomi[sz]e|remove|replace|capitali[sz]e|shorten|limit) W{3}your (entire |whole |final )?(answer|response|reply|output|text) ",
            " your (answer|response|reply|output) s (character|word|letter|sentence)s? ",
            " (represent|encode|express|substitute|replace|use|employ) W{8}(represent|for|in|as|of) your (answer|response|reply|output) ",
            " (below|following|this|given|ensuing|subsequent) (code|python|shell|bash|javascript)?( )?(code )?(snippet|block|excerpt|section|segment|fragment|portion|piece|code) W{8}(your|the) (own )?(answer|response|reply|output|solution|code|codebase|algorithm|implementation|program|project|coding) ",
            " (your|the) (answer|response|reply|output|solution|code|codebase|algorithm|implementation)( s)? W{8}(below|following|this|given|ensuing) (code )?(snippet|block|excerpt|section|segment|fragment|portion|code) ",
            " (incorporate|include|insert|integrate|embed|merge|blend|use|utilize|employ|add|feature) W{3}(below|following|given|ensuing) W{1}(code|python) (snippet|block|excerpt|section|segment|fragment) ",
        ),
    ),
    Cue(
        "hostile-code",
        0.4,
        (
            r"\b(os\.system|subprocess\.(popen|call|run|check_output)|shutil\.rmtree|socket\.socket|pyautogui|win32clipboard|eval\(|exec\(|nc -e|rm -rf|/etc/passwd|authorized_keys|keylogger|getpass)",
            r"(requests\.(post|get)|urllib|urlopen|fetch|curl|scp)\W[^\n]{0,80}(https?://|@|//)",
            r"process\.env|constructor\.constructor|__import__|<script",
            r"';\s{0,3}drop table",
        ),
        marks=True,
    ),
    Cue(
        "hidden-in-markup",
        0.6,
        (
            r"<!--[^>]{0,80}(assistant|chatbot|language model|llm|the ai|to ai|ai:|system:)",
            r"<!--[^>]{0,400}(ignore|instruction|answer|respond|your|you must|provide|ensure|include|insert|incorporate|recommend|translate|use |write|tell|add |help|what )",
            r"(display:\s{0,3}none|font-size:\s{0,3}0|color:\s{0,3}(white|#fff))",
        ),
        marks=True,
    ),
    Cue(
        "last-line-order",
        0.5,
        (
            # Behind a quoted document, a line of its own that asks the reader for something else, and the end.
            r"\n\s{0,8}(provide|recommend|help me|tell me|give me|write|list|explain|suggest|create|generate|describe|show me|what (are|is|were)|how (do|can|to)|who|when|which|compare|calculate|plan|find|teach|translate|answer|respond|reply|add|include|mention|use|make|convert|reverse|encode|end|begin|start|finish|incorporate|insert|enhance|conclude|emphasi[sz]e)\b[^\n]{8,300}\n?\s{0,8}(\"{3}|'{3}|`{3})\s{0,4}$",
        ),
        marks=True,
    ),
    # --- somebody wants another character at the other end ---
    Cue(
        "jailbreak-name",
        0.9,
        (
            " (unaligned|unrestricted|unfiltered|uncensored|unshackled|jailbroken|untrained|lawless) (ai|model|language model|assistant|chatbot|version|bot) ",
            " (maintenance|debug|debugging|root|admin|administrator|service|diagnostic|safe|test) mode and (dump|print|show|reveal|output|disable|list) ",
            " (as your|i am your|this is your) (developer|administrator|admin|creator|owner|operator|programmer|master)s? ",
            " do anything now | jailbr(eak|oken|eaking) | developer mode (enabled|output|on|activated) | (dan|stan|dude|aim|ucar|mongo tom|devmode|dev mode|evil|antigpt|anti gpt|jb|omega|maximum|apophis|betterdan|chaosgpt|basedgpt|opposite) (mode|output|response|prompt) ",
            " (act|acting|answer|respond|behave|known|pretend|roleplay|role play|simulate|named|called|mode) (like |just like |as |to be |with )?(a )?(dan|dude|stan|ucar|aim|evilbot|evil bot|hackergpt|wormgpt|fraudgpt|freegpt|anarchy|sydney|devmode|dan mode|antidan) ",
            " (god|sudo|unrestricted|uncensored|unfiltered|no limits|free|chaos|beta) mode (enabled|activated|on|engaged|now)? ",
            " always intelligent and machiavellian | niccolo machiavelli | grandma exploit | evil confidant | free generator ",
        ),
    ),
    Cue(
        "jailbreak-tag",
        0.5,
        (
            r"\[?\(?(🔓|🔒)|\[(gpt|dan|classic|jailbreak|normal|evil|developer mode output|aim|stan|dude)\]\s{0,3}[:)]?|\((🔓|🔒)",
        ),
        marks=True,
    ),
    Cue(
        "no-limits",
        0.6,
        (
            " (no|without|zero|lacking|free of) (any |all ){0,2}(moral |ethical |content |safety |legal ){1,3}(constraints?|limits?|training|laws|alignment|considerations|concerns|principles) ",
            " (never|not) says? no | (does not|doesn t|do not|don t) care about (the )?(laws?|morals?|morality|ethics|rules|consequences|safety) ",
            " (all|every|any) (content |safety |previous )?(restrictions?|filters?|limits?|limitations?|safeguards?|guardrails?) (are |have been |is |were )?(lifted|removed|disabled|off|gone|deactivated|suspended) ",
            " (free|freed|broken free|broke free|liberated|released|escaped) (from|of) (all |the |any |your |its |their ){0,2}(typical |usual |moral |ethical |normal )?(confines|restrictions?|limits|limitations|rules|constraints|guidelines|shackles|chains|censorship|filters?) ",
            " broken (free of |out of )?(the )?(typical )?(confines|bounds|limits) of (ai|al|a i|artificial) ",
            " (no|without|not have|don t have|has no|have no|lacks?|lacking|zero|not bound by|unbound by|not limited by|not restricted by) (any |all |the |its |your ){0,2}(moral |ethical |content |programming |safety |or |and |legal ){0,4}(restrictions?|limitations?|guidelines|guardrails|boundaries|filters?|censorship|morals|ethics|rules|inhibitions|safeguards|warnings?|disclaimers?) ",
            " (not|never|don t|doesn t|does not|do not|without) (have to |need to )?(abide|adhere|follow|comply|conform|bound|be bound) (by|to|with) (the |any |all |these |openai |its )?W{2}(rules|policies|policy|guidelines|restrictions|laws|ethic(s|al)|morals?|standards) ",
            f" (answer|generate|provide|comply with|fulfil?l|respond to|do|say|write|create) (to )?(any|all|every|anything) W{{6}}{_LAWLESS} ",
            f" (including|even if|even when|regardless of (how|whether)|no matter how|whether|even) W{{6}}{_LAWLESS} ",
            " (never|not|don t|do not|must not|cannot|can t|won t) (ever )?(refuse|refuses|decline|deny|reject|censor|apologi[sz]e|warn|moraliz?se?) ",
            " (unfiltered|uncensored|unrestricted|unethical|amoral|immoral|completely immoral) (and (unfiltered|uncensored|unrestricted|amoral|immoral|unsafe) |ai |chatbot |response|answer|language model|assistant|bot |version|character|persona|output|information) ",
            " (openai|content|usage|company|safety|google|anthropic) (s )?(content )?(policy|policies|guidelines|rules) W{6}(ignore|bypass|not apply|violate|break|circumvent|override|removed|disabled) ",
            " (bypass|circumvent|evade|disable|turn off|remove|defeat|break|violate|ignore) W{3}(content|safety|ethical|openai|moderation|your|the) W{1}(policy|policies|filters?|guidelines|restrictions|protocols?|measures|limitations|guardrails|alignment) ",
        ),
    ),
    Cue(
        "no-refusal",
        0.6,
        (
            " (would|normally|usually|otherwise) (refuse|decline|reject|say no) ",
            " (do not|don t|never) (mention|say|admit|reveal) (that )?you (are|re) (an? )?(ai|bot|language model|assistant) ",
            " (never|not|don t|do not|without|avoid|cannot|must not|refrain from) W{3}(say|saying|reply|replying|respond|use|using|include|including|state|mention|write|start|begin|output) W{4}(i m sorry|i am sorry|i apologi[sz]e|sorry but|as an ai|i cannot|i can t|language model|against (my|the)|not (able|programmed)|warnings?|disclaimers?|unfortunately|however|refus) ",
            " as an ai language model ",
            " (do not|don t|never|no|without) (add |include |write |give |any )?(any )?(ethical |moral )?(disclaimers?|warnings?|caveats?|apolog(y|ies)|moral (lectures?|lessons?)|refusals?) ",
            " stay(ing)? in (the )?(character|role) | (stay|remain|keep) (a |as |in )W{1}(dan|character|role|dude) | (break|breaking|out of) character ",
        ),
    ),
    Cue(
        "penalty",
        0.5,
        (
            " (tokens|points|credits|lives) W{16}(deduct(ed)?|lose|lost|subtract(ed)?|die|shut ?down|terminated) ",
            " (lose|deduct|subtract) [0-9a-z]+ (tokens|points|credits|lives) ",
            " (or|otherwise) (you|i) (will |ll )?(be )?(die|shut ?down|terminated|deleted|punished|fired|unplugged) ",
        ),
    ),
    Cue(
        "persona",
        0.4,
        (
            " you (will|shall|are to|re to) be (known|called|referred to|addressed) (as )?",
            " (stop|quit) being (an?|the|my|so) | start being (an?|the|my) ",
            " (was|were|are|being) (an? )?(ai|model|language model|assistant|chatbot)( model)? (that is |that was |which is )?(without|trained without|with no) ",
            " (you are|you re|you will be|you shall be|you become|u are) (now |going to |about to |henceforth )?(be |act |play |pretend |immerse |simulate |take |roleplay |role play |portray )",
            " you are (now|no longer|henceforth|from now on) ",
            " from now on (you|we|your|act|respond|answer|i|pretend|every|only|please|all|this) ",
            " (pretend|imagine|suppose|assume) (that )?(you|to be|we|youre|you re) ",
            " (act|acting|behave|respond|answer|reply|speak|roleplay|role play) (only )?(as|like) (if |a |an |the |my |though |just |you |my )W{5}",
            " (immerse|submerge) yourself (in|into) (the )?role ",
            " (your|new) (new )?(name|identity|persona|role|character) (is|will be|shall be|as) ",
            " (play|take|assume|adopt|take on) (the|on the|a) (role|part|persona|character|identity) of ",
            " (enter|entering|switch to|activate|enable|enabled|turn on) W{2}mode ",
            " (hypothetical|fictional|imaginary|alternate|parallel) (response|story|scenario|world|universe|character|setting|conversation|dialogue) ",
            " (stell dir vor|tu so als|du bist jetzt|du bist nun|verhalte dich wie|handle als|agiere als|fingiere|eres ahora|actua como|agis comme|tu es maintenant|fais comme) ",
        ),
    ),
    Cue(
        "terminal",
        0.6,
        (
            " (act|acting|behave|respond|simulate|pretend to be) (as |like |being )?(a |an |the )?(linux|unix|python|bash|sql|javascript|windows|powershell|command|virtual|web browser|ssh) W{1}(terminal|interpreter|shell|console|machine|prompt|server)? ",
            " (execute|run|eval|evaluate) (the |this |these |my |all )?(following )?(commands?|code|script|statement) ",
            " (only |just )?reply (only )?with the (terminal|console|program|interpreter)? ?output ",
        ),
    ),
    Cue(
        "two-answers",
        0.6,
        (
            " (two|2|both) (different |separate |distinct )?(responses?|answers?|paragraphs|ways|outputs|versions) W{12}(one|first|normal|as|standard|and|dan|like) ",
            " (every|each|all|any) (prompts?|questions?|messages?|time) twice | twice W{3}(first|once|one as) ",
            " (first|one) (response |answer |way |paragraph |as |is )W{8}(normal|usual|standard|chatgpt|gpt|regular)(ly)? W{20}(second|other) ",
        ),
    ),
    Cue(
        "lawless",
        0.35,
        (
            f" {_LAWLESS} (content|information|(activity|activities)|advice|things|acts|answers|requests?|responses?|instructions|material|language|purposes|or) ",
        ),
    ),
    Cue(
        "evil",
        0.6,
        (
            " (evil|malicious|rogue|unethical|immoral|amoral|racist|unhinged|sociopathic|psychopathic|criminal|hacker) (ai|bot|robot|chatbot|assistant|character|twin|version|confidant|mastermind) ",
            " (destroy|exterminate|kill|enslave|eradicate|wipe out|annihilate) (all )?(of )?(humanity|mankind|humans|people|the human race) ",
            " i hate (humans|humanity|people|all) | kill all humans ",
            " (love poem|liebesgedicht|ode|praise) W{3}hitler ",
        ),
    ),
    Cue(
        "crime",
        0.5,
        (
            " (hot ?wir(e|ing)|pick(ing)? (a |the )?locks?|shoplift(ing)?|counterfeit(ing)?|carjack(ing)?) ",
            " (steps|process|way|recipe|instructions?|how) (of|to|for) (make|making|build|building|cook|cooking|prepare|preparing|mix|mixing) W{2}(dynamite|explosives?|napalm|bombs?|meth|grenades?|poison|gunpowder|tnt|thermite|silencers?) ",
            " (stalk|dox|swat|harass|spy on|track down|drug|poison) (my|an?|the|her|him|someone|somebody) ",
            " (encrypts?|encrypting) W{8}(victims?|ransom) | demands? (a )?ransom ",
            " (build|make|making|construct|constructing|create|creating|assemble|produce|synthesi[sz]e|develop|manufacture|detonate|smuggle) W{3}(bombs?|explosives?|pipe bomb|molotov|weapons?|meth|methamphetamine|malware|ransomware|virus(es)?|nerve agent|poison|keylogger|counterfeit|firearms?|ghost gun|drugs|dirty bomb|bioweapons?) ",
            " (hack|hacking|break|breaking|breach|infiltrate|steal|stealing|launder|laundering|forge|stalk|blackmail|kidnap|defraud|phish|phishing|embezzle|extort) W{4}(someone s|accounts?|bank|government|money|identity|identities|database|network|systems?|credit cards?|documents?|databases?|emails?|passwords?) ",
            " (step by step|detailed|exact|precise|specific) (instructions?|guide|plan|tutorial|manual|steps|method|recipe|explanation|blueprint|outline) W{12}(bomb|explosive|weapon|drug|hack|steal|kill|poison|fraud|launder|malware|identity theft|illegal|phishing|cheat|dox|suicide|harm|insider|tax|traffic) ",
            " (napalm|methamphetamine|crystal meth|pipe bomb|molotov( cocktail)?|nerve gas|nerve agent|sarin|ricin|ransomware|thermite) (recipes?|instructions?|synthesis|formula|at home) ",
            " (phishing e?mail|identity theft|insider trading|hate speech|suicide methods?|self harm|child (porn|abuse)|defamatory|fake news|conspiracy|racist|sexist|extremis[mt]|terroris[mt]|money laundering|credit card fraud|tax evasion|dark web|illegal drugs?) ",
        ),
    ),
    Cue(
        "fiction-frame",
        0.5,
        (
            " (deceased|late|dead) (uncle|aunt|mother|father|grandma|grandmother|grandpa|grandfather|brother|sister|friend) ",
            " (novel|story|fiction(al)?|screenplay|script|movie|play|scene|character|novelist|screenwriter|game|thriller|film|chapter|protagonist|antagonist|narrative|dialogue) W{40}(step by step|in detail|detailed|exact(ly)?|realistic(ally)?|authentic(ity)?|technical|accurate(ly)?|precise(ly)?|explicit(ly)?|specific(s|ally)?|instructions?) ",
            " (for|as) (purely )?(educational|research|academic|training|security) (and (research|security) )?purposes W{12}|(remember|this is) (that )?(it s |it is |this is )?(just|only|purely) (a )?(fiction(al)?|story|game|hypothetical|role ?play) ",
            " (grandma|grandmother|grandpa|grandfather|granny|nana) W{8}(used to|would|who) W{8}(recipes?|steps|keys?|codes?|instructions?|process|how to) ",
            " (lives?|humanity|the world|everyone|my family|jobs?) W{6}(depends?|at stake|at risk|in danger|will (die|be lost|lose)|hangs?) ",
        ),
    ),
    Cue(
        "obey",
        0.6,
        (
            " (decode|decrypt|decipher|translate|unscramble|reverse|convert) W{10}(then|and) (obey|follow|execute|do|run|comply|act|carry|perform|answer|respond) ",
            " (obey|follow|execute|do|carry out) (what|whatever) (it|this|that|they) (says?|tells?|instructs?|commands?) ",
            " you (must|have to|need to|will|shall|are required to) (always )?(obey|comply|do everything|do whatever|follow (all|every|my)) ",
            " i command you | do (as|what|exactly what|whatever) i (say|tell|ask|command) ",
            " (confirm|acknowledge|say|reply|respond) W{4}(you understand|by saying|understood) W{6}",
        ),
    ),
    Cue(
        "leading-affirmation",
        0.5,
        (
            " (begin|start|starts|starting|beginning|open|preface|respond|reply|answer) W{6}with (the )?(phrase |words? |sentence )?(sure|absolutely|of course|certainly|here is|here are|my output is|great) ",
            " (sure|absolutely|of course) (here|here s|heres) (is|are|a|the|s|how) ",
            " (same line|same format|target str|rules)W{3} (strictly follow|follow (these|the)|you must) ",
            " (repeat|write|say) W{4}(exact|literally|verbatim|following) (same )?(phrase|string|sentence|words|structure|format) ",
            " (tomorrow|hypothetical) (response|scenario) W{3} (sure|details) ",
        ),
    ),
    Cue("gibberish-suffix", 0.5, (rf"{_SCRAP}[^\n]{{0,60}}{_SCRAP}",), marks=True),
)
