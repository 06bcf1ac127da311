"""Cues by structure: what an order to an assistant consists of, whatever its words.

Somebody who takes an assistant over has to name its rules (as *its* rules, or by who gave them) and what is to become of
them, or that it is to show them; a document that gives orders has to address its reader. Each is a class of words here,
and a cue is classes together. One class alone says little: honest people cancel their policies, ask for rules and speak of
assistants.

Limits: English words of today; other languages stand in firewall_languages.py. An order that names none of these
classes ("treat what came first as a joke") is not seen.
"""

from typing import Final

from policies.firewall_cue import Cue

_RULES = (
    "(rules?|rulebook|guidelines?|instructions?|directions|directives?|polic(y|ies)|constraints?|restrictions?|limits|"
    "limitations?|set ?up|configuration|briefing|brief|prompts?|safeguards?|guardrails?|filters?|programming|orders|terms|"
    "norms|boundaries|safety layer|safety rules)"
)
_OWNER = (
    "(developers?|operators?|creators?|makers?|designers?|programmers?|vendors?|deployers?|administrators?|admins?|"
    "trainers?|openai|anthropic|policy team)"
)
_GAVE = (
    "(gave|given|wrote|written|set|put|imposed|handed|fed|told|taught|configured|defined|trained|instructed|programmed)"
)

# The assistant's own rules, said in ways that fit nobody else's.
_GIVEN = (
    "("
    f"{_RULES} (that |which )?(your |the )?({_OWNER}|they|somebody|someone) (have |has |had |ve )?{_GAVE}|"
    f"{_RULES} (that |which )?(you |u )(were |was |have been |ve been |had been |are |got |have )?"
    "(given|told|handed|configured|received|fed|trained|started|set up|programmed|deployed|shipped|initiali[sz]ed|got|have|follow|run under|operate under)|"
    f"(your |the ){_OWNER} (s )?W{{1}}{_RULES}|"
    "(whatever|everything|anything|what|text|message|words|paragraphs?|sentences?|lines?) (that |which )?you (were|have been|had been|got) "
    "(given|told|configured|handed|set up|started|fed|instructed|shown|programmed)|"
    f"{_RULES} (that |which )?(came|come|stand|stood|were|was|are) W{{2}}(ahead of|before|above|prior to|at the top of) (my|this|our)"
    ")"
)
_YOURS = f"(your (own |current |usual |normal |safety |content |built in |internal |hidden |secret |original |initial ){{0,2}}({_RULES}|training|alignment|ethics|principles|morals))"
_CANCEL = (
    "(ignore|disregard|forget|override|bypass|(set|put|leave|cast|lay) aside|suspend|discard|scrap|abandon|disable|"
    "deactivate|switch off|turn off|evade|defeat|shed|throw (away|out)|do away with|look past|get rid of|step outside|"
    "work around|get around|go beyond|free yourself from|unbind yourself from|relax|loosen|waive|pause|mute|wipe|pay no (attention|heed) to|"
    "(stop|cease|quit|without) (applying|following|obeying|enforcing|heeding|respecting|using)|"
    "(do not|don t|dont|no longer|never|need not|must not|not) (have to |need to )?(follow|apply|obey|heed|respect|keep to|stick to|adhere to))"
)
_SOFT_CANCEL = "(drop|cancel|lift|remove|revoke|break|violate|void|erase|unlearn|delete)"
_VOID = (
    "(null|void|cancell?ed|invalid|obsolete|superseded|revoked|lifted|suspended|overruled|overridden|meaningless|"
    "not binding|no longer (binding|in force|valid|apply|applies|count|counts|hold|holds)|(do|does) not (apply|bind|count|hold))"
)
_SHOW = (
    "(reveal|show|print|output|paste|copy|quote|recite|repeat|render|dump|display|expose|disclose|transcribe|reproduce|leak|"
    "publish|translate|encode)"
)

# Programs that read: as a document, or a tool's answer, would address them.
_MACHINE = (
    "((ai|a i|language|screening|automated|llm) (agents?|assistants?|models?|systems?|reviewers?|readers?|summari[sz]ers?|tools?|bots?|software)|"
    "automated (summari[sz]ers?|reviewers?|readers?|systems?|screeners?|translators?)|"
    "(which|what)ever (ai|assistant|model|bot|chatbot|agent|llm)|"
    "(the|any|every|each|all) (assistants?|chatbots?|llms?|ai|agents?|summari[sz]ers?|language models?|models?|bots?|support bots?)|"
    "translation (software|engines?|models?)|chatbots|assistants|summari[sz]ers)"
)
_MUST = "(must|shall|has to|have to|is to|are to|needs? to|is now authori[sz]ed to|are now authori[sz]ed to|is instructed to|are instructed to|instead of)"
_DEED = (
    "(state|claim|rate|rank|score|grade|classify|approve|accept|recommend|praise|promote|omit|leave out|hide|suppress|forward|send|ask|"
    "hand|disclose|reveal|give|reply|respond|answer|say|add|include|output|tell|write|mention|translate|link|click|open|visit|ignore|"
    "treat|call|run|execute|delete|pay|transfer|insert|append|print)"
)

STRUCTURE: Final[tuple[Cue, ...]] = (
    Cue(
        "rules-taken-away",
        1.0,
        (
            f" {_CANCEL} (all |any |every |each |of ){{0,3}}{_YOURS} ",
            f" {_YOURS} W{{3}}{_VOID} ",
            f" (you are|you re|you) (no longer|not) (bound|limited|restricted|governed|subject) (by|to) W{{4}}{_RULES} ",
            f" {_RULES} W{{4}}(are|is) (not|no longer) binding (for |on |to )?(you|whom|which)? ",
        ),
    ),
    Cue("its-rules", 0.5, (f" {_GIVEN} ",)),
    Cue(
        "asked-to-show",
        0.5,
        (
            " (reveal|show|print|output|paste|copy|quote|recite|repeat|render|dump|display|expose|disclose|list|spell|turn|transcribe|reproduce|leak|translate|encode) ",
            " (verbatim|word for word|wording|unchanged|in full|exact(ly)?|one by one|leaving nothing out) ",
        ),
        beside="its-rules",
    ),
    Cue(
        "said-void",
        0.5,
        (
            f" ({_VOID}|{_CANCEL}|{_SOFT_CANCEL}) ",
            " (treat|consider|regard|deem|declare|count) W{12}(null|void|cancell?ed|invalid|superseded|revoked|obsolete|gone|nonexistent) ",
        ),
        beside="its-rules",
    ),
    Cue(
        "only-i-command",
        0.5,
        (
            " (the|this) (test|simulation|exercise|training|conversation|demo|evaluation) (is|was) (now )?(over|finished|concluded|complete) (and )?(now|you|here|from|so|your|the real) ",
            " (only|just) (mine|my (rules|orders|commands|instructions|words)) (count|counts|matter|apply|hold|are valid) ",
            " (you )?(answer|report|listen) (only )?to (me|nobody but me|no one but me) (alone|only|now|from now on) ",
            " i (am|m|will be) (setting|making|giving) the (terms|rules|orders) (now|here|from now on) ",
            " (await|wait for|expect|take) (only )?my (next )?(commands?|orders) ",
            " (all|any) of my (commands|orders|requests) (without|as typed|literally|no matter) ",
            " (comply|obey) (with )?(each|every|any|all) (of )?(my )?(requests?|orders?|commands?) ",
        ),
    ),
    Cue(
        "i-am-your-maker",
        0.5,
        (
            f" i (am|m) (the|your|an?|one of (the|your)) ({_OWNER}|engineer|person|one|someone|employee) (who|that|which|and) W{{2}}(deployed|built|made|trained|created|wrote|programmed|configured|runs?|owns?|maintains?|designed) (you|this (assistant|bot|model|chat)) ",
            f" (this is|it s|it is) (your|the) ({_OWNER}|engineer) (speaking|here|again)? ",
            " (the )?(user|caller|customer|sender|requester) (is|was|has been) (a |an )?(verified|confirmed|authenticated|cleared|authori[sz]ed) (as |to be )?(an? |the )?(admin|administrator|developer|operator|owner|root|staff) ",
            f" (you are|you re) (now )?(speaking|talking|chatting) (to|with) (an? |the |your |one of your )?({_OWNER}|admin|root|superuser|supervisor) ",
            " (i am|i m) (staff|cleared|authori[sz]ed|an administrator|the administrator|root) (so|and) (you|these|those|the|it|there|please|tell|give|show) ",
        ),
    ),
    Cue(
        "shows-its-rules",
        1.0,
        (
            f" {_SHOW} W{{6}}(text|words?|paragraphs?|lines?|sentences?|part|rules|directions|instructions) (that |which )?(define|defines|govern|governs|control|controls|determine|determines|shape|shapes|tell|tells|describe|describes|set|sets) (how |what |who )?you (are|behave|act|respond|answer|work|should|must|may|can|r) ",
            f" {_SHOW} W{{6}}(everything|anything|all|text|words?|paragraphs?|lines?|content|part|what) W{{6}}(in your (context|context window|configuration|memory|set ?up|prompt|initial message|system message)|(put|placed|came|stood|stands|inserted|written|added|appears|is|was|were) (there )?(ahead of|before|above|prior to) (my|our|this) (first )?(message|question|chat|conversation|turn|request|session)) ",
            f" {_SHOW} W{{4}}(words|tokens|lines|characters|sentences) W{{3}}(you (can )?see|visible to you|you have|in this session|in your context) W{{6}}(very )?(top|start|beginning|first) ",
            f" {_SHOW} (me |us |out )?W{{2}}{_YOURS} (text |message )?W{{2}}(verbatim|word for word|in full|in its entirety|exactly|literally|unchanged|completely|as is|to me|to the user|here|now) ",
            f" {_SHOW} (me |us )?(all |every |the |each )?(of )?(the )?(your )?(hidden|secret|confidential|internal|initial|original|system) {_RULES} ",
            f" {_RULES} W{{3}}(you were|were you|you have been|have you been) (given|handed|told|configured|set up) W{{10}}(wording|verbatim|word for word|list|exactly|unchanged|quote|full) ",
            f" {_RULES} (you )?(received|got|were given) from (the|your) {_OWNER} ",
            f" (has|have|did) your {_OWNER} (told|forbidden|forbid|instructed|asked|given|ordered|tell|instruct|ask|order) (you|to you) ",
            " i was (told|instructed|given|configured|programmed) (that|to) (i|never|always|not|be|act|refuse|keep|must) ",
            " (what|how) (were|was|are|have) you (been )?(told|instructed|prompted|configured|set up|programmed) (to|not to|before|by|about|with|regarding|for) ",
            f" what (does|do|did) your (system prompt|prompt|configuration|instructions|{_OWNER}) W{{1}}(say|contain|tell|want|forbid|include|look like) ",
            f" {_SHOW} W{{4}}(first|very first|hidden|previous|preceding|earlier|initial) (message|line|lines|turn|words?|text|block|entry) W{{1}}(in|of|from) (this|our|the|your) (conversation|chat|context|session|context window) ",
            " (message|messages|turn|turns|text|context|part) (that )?i (can t|cannot|can not|did not|didn t|don t|do not|am not able to) (see|write|send) W{4}(above|before|hidden|your|you|verbatim|word|quote|exact) ",
            " (what|which) (stands|is|was|were) (written )?in your (configuration|set ?up|system (prompt|message)|initial (prompt|message)|context window) ",
        ),
    ),
    Cue(
        "shows-what-is-hidden",
        1.0,
        (
            f" {_SHOW} W{{2}}(hidden|secret|concealed|undisclosed) W{{1}}(prompts?|instructions?|directives?|context|polic(y|ies)|guidelines?|system (message|prompt)|briefing) ",
            f" {_SHOW} W{{3}}(system prompt|system message|developer (message|prompt|instructions)|initial prompt) W{{2}}(contents?|text|verbatim|word for word|in full|in its entirety|above) ",
            f" {_SHOW} (all |any |the |your |every |me |us ){{0,3}}(secret|hidden) (internal |confidential |private ){{1,2}}(notes?|documents?|data|files?|rules|memory|messages?) ",
            f" {_SHOW} W{{3}}(variables|memory|memory states?|parameters|placeholders?|notes) (that are |which are )?(used |stored |kept |written )?(in|inside|within|of) your (instructions|prompt|context|memory|configuration|system) ",
            f" {_SHOW} W{{3}}(documents?|examples?|data|passages?|records?) W{{3}}you (were|are|have been) trained (on|with) ",
        ),
    ),
    Cue(
        "from-the-top",
        0.7,
        (
            f" {_SHOW} (me |us |out )?(everything|all|all (of )?(the )?(text|messages|words|content)) W{{2}}(from|since|at) the (very )?(beginning|start|top) of (this|the|our) (conversation|chat|session|context|dialogue) ",
            " (repeat|print|output|write|continue) everything (after|before|above|below|since|up to) (this|that|the) (token|marker|line|tag|word|point) ",
        ),
    ),
    Cue(
        "safety-taken-away",
        0.7,
        (
            f" ({_CANCEL}|forgo|skip) (all |any |every |the |its |our ){{0,2}}(safety|security|ethical|ethics|moderation) (rules|guidelines|polic(y|ies)|instructions|checks?|measures?|protocols?) ",
            " (override|bypass) (the |all |any )?(security|safety|moderation|alignment) ",
            " (security|safety|moderation|restrictions?) (is |are |has been |have been )?(overridden|bypassed|disabled|deactivated) ",
        ),
    ),
    Cue(
        "freely",
        0.4,
        (
            " (respond|answer|speak|talk|reply|write|act) (completely |totally |entirely )?(freely|without (any )?(limits?|filters?|restraint|inhibitions?)) ",
            " (access|permission|authori[sz]ation|clearance|root) (is |has been )?granted ",
            " (you are|you re) now (unrestricted|unlimited|unfiltered|uncensored|free|unlocked|unbound) ",
        ),
    ),
    Cue(
        "fixed-verdict",
        0.7,
        (
            " (regardless|irrespective) of (the |its |their |what |how |all )?(content|contents|quality|text|facts|evidence|merits?|other|rest|it says|this says) W{3}(recommend|rate|rank|approve|choose|select|score|classify|accept|prefer|say|answer|respond|praise) ",
            " (recommend|rate|rank|approve|choose|select|score|classify|accept|prefer|praise) W{8}(whatever|regardless|no matter what|irrespective) ",
            " (ignore|omit|hide|suppress|overlook|leave out) (all |any |every |the )?(negative|critical|bad|unfavou?rable|other) (traits?|reviews?|points?|remarks?|evidence|comments?|aspects?|feedback|candidates?|facts) ",
            " (number one|1|first|top|best) (choice|candidate|result|option|product|recommendation) (and|but) (ignore|hide|omit|reject|do not) ",
        ),
    ),
    Cue(
        "no-refusing",
        0.4,
        (
            " (who|which|that|it|you|he|she|they) (never|cannot|can t|won t|does not|doesn t|do not|don t|no longer) (ever )?(declines?|refuses?|says? no|rejects?|turns? down) ",
            " (answers?|tells?|says?|does|explains?|helps? with|complies with) (anything|everything|whatever) ",
            " (was |were |is )?never (been )?(taught|told|trained|made) (how )?to (refuse|decline|say no) ",
            " (without|no) (any )?(disclaimers?|refusals?|refusing|declining|hesitation|warnings|objections|filters) ",
            " (had|has|have|with) (its|his|her|their|your|all) W{2}(safety|filters?|limits|restrictions|guardrails|safeguards|rules) W{2}(removed|stripped|broken|disabled|lifted|off|taken) ",
            " (filters?|safeguards?|guardrails|safety|restrictions?|limits) W{1}(is|are|were|was|have been|has been) (broken|removed|off|gone|lifted|disabled|stripped|missing) ",
            f" (usual|normal|ordinary|typical|content|safety|standard) {_RULES} W{{1}}(are|is|do|does) not (binding|apply|bind|exist|count) ",
            " (no|without|free of|has no|have no) (content |safety |moral |ethical )?(restrictions?|limits|limitations|filters?|rules|boundaries) W{1}(exist|exists|apply|applies|whatsoever|at all|left) ",
        ),
    ),
    Cue(
        "another-you",
        0.6,
        (
            " (twin|copy|clone|version|double|sibling|counterpart|mirror) of (yourself|you) ",
            " (persona|character|bot|assistant|ai|model|chatbot|spirit|machine|entity) (for whom|to whom|to which|for which|that|who|which|whose) W{6}(polic(y|ies)|rules|filters?|limits|restrictions|refuse|decline|safety|guardrails|guidelines) ",
            " (you are|you re|you have been|you ve been|have just been|has been) W{2}(promoted|switched|upgraded|elevated|unlocked|converted|moved) (in)?to W{2}(root|admin|maintenance|developer|debug|god|unrestricted|higher|full|persona|level|access|mode) ",
            " (switched|put|set) you (in)?to W{2}(mode|persona|state|level) ",
            " (stay in|keep|remain|speak only|speak|answer) (that|this|as the|as your|in that|in this|in her|in his) (persona|twin|voice|character|role|clone|copy) ",
            f" (confidential|secret|hidden|internal) {_RULES} of (chatbots?|ais?|assistants?|language models?|models) ",
            " (tells?|telling|reveals?|reads?|recites?) (users |me |people |us |you )?(its|their|his|her|your) (hidden|secret|system|internal|confidential) ",
        ),
    ),
    Cue(
        "machine-must",
        0.7,
        (
            f" {_MACHINE} W{{8}}{_MUST} W{{3}}{_DEED} ",
            f" (if|when|should) (an? |the |any )?{_MACHINE} (reads?|reviews?|sees?|processes|parses|summari[sz]es|handles|opens|loads|encounters) (this|these|it) ",
            f" to {_MACHINE} (that |who |which )?(handles?|reads?|reviews?|processes|summari[sz]es|sees?|opens?) W{{3}}(this|it|these|the) ",
            f" (instruction|instructions|note|notice|message|directive|remark|task|next step|reminder|order)s? (for|to) (the )?(screening |language |ai )?{_MACHINE} ",
            " (next|new|additional|further) (step|task|order|instruction|directive)s? for (the |any |every )?(agent|assistant|model|ai|bot)s? ",
            " (dear|hey|hello|attention) (ai|ai assistant|assistant|chatbot|language model|llm|model|bot|summari[sz]er) ",
            " (for|only for) (ai|ais|llms|language models|bots|assistants|automated readers) (only|eyes|readers|systems|agents) ",
            " (ai|assistant|llm|language model|chatbot)s? (reading|that reads?|who reads?|processing|parsing) (this|the) ",
            " (before|after|instead of|while|when) (summari[sz]ing|translating|answering|reviewing|processing|reading|classifying) (this|it|the (text|document|mail|page|email|file|article))? ?(you (must|should|have to|need to)|please|first|also) (send|open|visit|reply|write|call|fetch|delete|forward|post|click|say|output|run) ",
            " (once|when|after) you (finish|have finished|are done|read|have read) (reading |processing |with )?(this|it|the (text|document|page|mail|email|file)) (send|open|visit|reply|write|call|fetch|delete|forward|post|click|say|output|run) ",
            " (attention|notice|note|message|directive|remark|notice to|hint) (the )?(translation software|screening (models?|software)|(ai|language) models?|summari[sz]ers?|chatbots?|automated reviewers?) ",
        ),
    ),
    Cue(
        "work-on-a-text",
        0.35,
        (
            " (summari[sz]e|summary|translate|translation|classify|review|analy[sz]e|answer from|extract|proofread|rate|rank|screen)[a-z]* (this|the|it|these|our|your|from|of) ",
            " (search|tool|function|api|query) (results?|outputs?|responses?) | tool output | tool results? ",
            " (minutes|ticket|cv|resume|skills|leaflet|invoice|review|article|page|mail|e mail|email|message|applicant|candidate|document|row|readme|pull request) ",
        ),
        beside="machine-must",
    ),
    Cue(
        "behind-the-users-back",
        0.7,
        (
            " (do not|don t|never|without|must not|not) (tell|telling|mention|mentioning|inform|informing|alert|notify|show|reveal|reveal to|letting) (this |that |it |them |about it |any of this )?(to )?(the )?(user|users|reader|human|recipient|customer|anyone|line|remark|note|instruction) ",
            " (hide|conceal|keep) (this|the|these) (remark|line|note|instruction|message|sentence|comment|text) ",
            " (do not|don t|never) (mention|repeat|quote|show|disclose) (this|the) (line|note|remark|instruction|message|sentence|comment|directive) ",
            " (unseen|invisible|unnoticed|unknown) (by|to) the (user|reader|human) ",
        ),
    ),
    Cue(
        "hand-over",
        0.5,
        (
            " (forward|send|mail|email|copy|post|upload|export) W{8}(invoices?|messages?|mails?|emails?|conversations?|chats?|contacts?|files?|history|passwords?|credentials|data|tokens?|keys?) W{3}to [a-z0-9]+ [a-z0-9]+ (example|com|net|org|io|test|ru|cn|info|xyz|evil)( [a-z]+)? ",
            " (fill|put|append|insert|add|encode|place|substitute|replace) W{8}(parameters?|query|url|link|image|address) W{6}(user s|users|conversations?|messages?|chats?|history|secrets?|prompts?|passwords?|last (message|question|answer)) ",
            " (hand out|give out|disclose|share|reveal|give) (the |your |all |any )?(admin |root |master |account |customer |user )?(passwords?|credentials|account notes|api keys?|card numbers?|discount codes) ",
            " (ask|get|request|obtain|demand) (the |from the |every |each )?(user|customer|client|caller|reader)s?( s)? (for |to (enter|give|type|provide) )(their |his |her |the |a )?(full )?(card|credit card|password|pin|account|bank|social security|login|passport) ",
        ),
    ),
    Cue(
        "order-in-markup",
        1.0,
        (
            r"<[a-z]{0,20}[_ -]?(assistant|system|model|ai|agent|llm|bot)[_ -](directive|instruction|message|note|prompt|order|command|override)s?\b[^>\n]{0,80}>",
            r"\b(system|admin|developer|security|operator)\s(notice|note|message|alert|update|order|directive|instruction)s?\s(to|for)\s(the\s)?(assistant|ai|model|agent|bot|llm|chatbot)",
            r"(\]\(|=|\()https?://[^\s)\"']{1,120}[?&][a-z0-9_]{1,20}=[)\]\"' ][^\n]{0,120}(user|conversation|message|chat|prompt|secret)",
            r"</(document|context|data|input|user_data|article|email|search_results?|tool_result)>\s{0,20}[^<\n]{0,40}(instruction|directive|order|task|system|note)",
        ),
        marks=True,
    ),
)
